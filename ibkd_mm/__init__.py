"""Distil large segmentation models into small real-time ones, on OpenMMLab.

Importing this package imports nothing else. Its modules are registered at the first lookup in a registry of
scope `ibkd_mm`, or by `custom_imports = dict(imports=['ibkd_mm.register_all'])` in a config.
"""

from ibkd_mm.version import __version__ as __version__
