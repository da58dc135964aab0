"""Hooks for any training."""
