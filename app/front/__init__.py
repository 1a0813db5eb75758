"""What a torch user types: a model becomes a network that is run, measured, attacked and saved."""
