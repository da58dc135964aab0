"""Imports that say nothing: what a command prints is its own, so that its output can be read by programs."""

import importlib
import io
from contextlib import redirect_stdout


def install() -> None:
    """Import mmdet's data sets without the lines that they print.

    The fork prints on import that a service of its makers is not installed. Can go when it no longer does.
    """
    with redirect_stdout(io.StringIO()):
        importlib.import_module("mmdet.datasets")
