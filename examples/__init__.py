"""Neurons to read, run and copy. Each module's docstring says how to start it."""
