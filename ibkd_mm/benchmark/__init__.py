"""Models timed beside each other."""

from ibkd_mm import stack

stack.prepare()
