"""Hooks that act on a distillation from outside the training step."""
