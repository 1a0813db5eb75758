"""What a user names: models, samples, networks of any kind."""
