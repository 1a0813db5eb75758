"""What a user chooses, as frozen values and by name."""
