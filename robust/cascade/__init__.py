"""The worst case over attacks and paths, sample by sample, in blocks that are files."""
