"""Read, override, walk and edit configs; explain errors about what a config names."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.config import tta  # noqa: E402, F401  (registers the config keys that it reads)
