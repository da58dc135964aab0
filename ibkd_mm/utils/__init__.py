"""Helpers that need no OpenMMLab package: atomic files, hashes, downloads, archives, progress."""
