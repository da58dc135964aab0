"""mmdet's datasets, imported without output and without packages that hardly any training needs."""

import importlib
import io
from contextlib import redirect_stdout

from ibkd_mm.stack.lazy_modules import lazy_modules

# Used by two transforms, one for lanes and one that corrupts images.
_LAZY = (
    "imgaug",
    "imgaug.augmenters",
    "imgaug.augmentables",
    "imgaug.augmentables.lines",
    "imgaug.augmentables.segmaps",
    "imagecorruptions",
)


def install() -> None:
    """Import mmdet's datasets without the messages that they print.

    The fork prints at import that a service of its makers is not installed, and imports packages that it may
    never use: with `scipy.stats`, see `razor`, 0.55 of 4.6 s that `import ibkd_mm.register_all` takes on one
    core. Can go when it does neither.
    """
    with redirect_stdout(io.StringIO()), lazy_modules(*_LAZY):
        importlib.import_module("mmdet.datasets")
