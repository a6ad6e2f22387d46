"""The network for inference: the same function in fewer operations."""
