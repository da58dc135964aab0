"""Configs: read, overridden, walked and edited; errors of building them in the user's terms."""

from ibkd_mm import stack

stack.prepare()
