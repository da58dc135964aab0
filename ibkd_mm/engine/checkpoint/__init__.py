"""Checkpoints: where they come from, loaded as data alone, matched to a model, written atomically."""
