"""mmdet's data sets, imported without a word and without what nearly nobody needs of them."""

import importlib
import io
from contextlib import redirect_stdout

from ibkd_mm.stack.lazy_modules import lazy_modules

# For a transform of lanes and one that spoils pictures: a second of every start.
_SELDOM = (
    "imgaug",
    "imgaug.augmenters",
    "imgaug.augmentables",
    "imgaug.augmentables.lines",
    "imgaug.augmentables.segmaps",
    "imagecorruptions",
)


def install() -> None:
    """Import mmdet's data sets without the lines that they print, so that a command's output is its own.

    The fork prints on import that a service of its makers is not installed, and imports packages where it
    may never use them. Can go when it does neither.
    """
    with redirect_stdout(io.StringIO()), lazy_modules(*_SELDOM):
        importlib.import_module("mmdet.datasets")
