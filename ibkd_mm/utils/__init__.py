"""Helpers without OpenMMLab: atomic files, hashes, downloads, archives, progress."""
