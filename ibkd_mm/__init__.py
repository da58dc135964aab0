"""Distil large segmentation models into small real-time ones, on OpenMMLab.

Importing this package imports nothing else. What it registers becomes available when a registry of scope
`ibkd_mm` is asked, or by `custom_imports = dict(imports=['ibkd_mm.register_all'])` in a config.
"""

from ibkd_mm.version import __version__ as __version__
