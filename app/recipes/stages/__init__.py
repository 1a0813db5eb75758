"""The stages of a recipe, one a file: what each does, what it depends on, what refuses it early."""
