"""Adversarial objectives, and the choice of an epoch by robustness."""
