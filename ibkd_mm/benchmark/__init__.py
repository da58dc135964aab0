"""Timing of models side by side."""

from ibkd_mm import stack

stack.prepare()
