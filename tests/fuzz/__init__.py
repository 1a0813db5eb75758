"""Damaged and forged files for every loader: whatever they hold, a command ends well or in one line."""
