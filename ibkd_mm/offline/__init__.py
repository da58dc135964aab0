"""Run a model once over images and keep its predictions in a file; a codec packs them."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.config.overrides import register_config_key  # noqa: E402
from ibkd_mm.offline.cache_check import CacheCheckHook  # noqa: E402
from ibkd_mm.offline.cached_instance_transforms import (  # noqa: E402
    LoadTeacherInstances,
    NoAnnotations,
    SplitTeacherInstances,
)
from ibkd_mm.offline.instance_codec import CachedInstances, InstanceCodec  # noqa: E402
from ibkd_mm.offline.store import CacheReader, CacheWriter  # noqa: E402

register_config_key("teacher_cache")

__all__ = [
    "CacheCheckHook",
    "CacheReader",
    "CacheWriter",
    "CachedInstances",
    "InstanceCodec",
    "LoadTeacherInstances",
    "NoAnnotations",
    "SplitTeacherInstances",
]
