"""The text of a config, formatted once."""

from functools import wraps
from typing import Any

from mmengine.config import Config


def install() -> None:
    """Let a config that did not change keep its text. Idempotent.

    A training asks for it four times before its first step, for logs and files, and each time yapf formats
    all of it: a second. Can go when mmengine keeps it.
    """
    write = Config.pretty_text.fget
    if hasattr(write, "__wrapped__"):
        return
    kept: dict[tuple[str, bool], str] = {}

    @wraps(write)
    def pretty_text(config: Any) -> str:
        state = repr(config._cfg_dict), config._format_python_code
        if state not in kept:
            kept.clear()
            kept[state] = write(config)
        return kept[state]

    Config.pretty_text = property(pretty_text)
