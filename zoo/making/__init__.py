"""The commands that make what is shipped."""
