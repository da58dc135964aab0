"""Comparison of trainings with and without a teacher: read, compared and shown on a page."""

from ibkd_mm import stack

stack.prepare()
