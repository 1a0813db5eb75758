"""The shipped networks: weights as safetensors, a JSON card for each."""
