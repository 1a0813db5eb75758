"""Common corruptions of images, by name and severity."""
