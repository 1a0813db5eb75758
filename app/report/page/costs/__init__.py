"""The sections on what an inference costs and what a network takes: energy and memory."""
