"""What the PyTorch methods share; installed with `ssvideo-core[torch]`."""
