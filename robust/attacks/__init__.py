"""The attacks, each a frozen value with all its settings."""
