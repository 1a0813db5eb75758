"""The section on robustness, part by part."""
