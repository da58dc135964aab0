"""Hooks that any training may have."""
