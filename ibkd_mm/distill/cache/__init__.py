"""What a teacher said of pictures, kept in a file, so that it runs once."""

from ibkd_mm.distill.cache.entry import CachedEntry, pack, unpack
from ibkd_mm.distill.cache.riding import LoadTeacherInstances, NoAnnotations, SplitTeacherInstances
from ibkd_mm.distill.cache.store import CacheReader, CacheWriter

__all__ = [
    "CacheReader",
    "CacheWriter",
    "CachedEntry",
    "LoadTeacherInstances",
    "NoAnnotations",
    "SplitTeacherInstances",
    "pack",
    "unpack",
]
