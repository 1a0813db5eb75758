"""Price lists, and what a network does in the terms that they are stated in."""
