"""Read trained networks, bring them to canonical form, make them spiking, certify them."""
