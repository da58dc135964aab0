"""Read, override, walk and edit configs; explain errors about what a config names."""

from ibkd_mm import stack

stack.prepare()
