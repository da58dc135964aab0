"""Checkpoints: find, read safely, match to a model, write atomically."""
