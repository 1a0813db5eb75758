"""Change a network's weights on data: train, prune, fine-tune, by either road."""
