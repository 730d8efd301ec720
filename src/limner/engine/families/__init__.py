"""Architectures that the engine can evaluate, one file each."""
