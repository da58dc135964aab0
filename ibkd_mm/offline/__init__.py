"""Run a model once over images and keep its predictions in a file; a codec packs them."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.config.overrides import register_config_key  # noqa: E402
from ibkd_mm.offline.cache_check import CacheCheckHook  # noqa: E402, F401
from ibkd_mm.offline.cached_instance_transforms import LoadTeacherInstances  # noqa: E402, F401
from ibkd_mm.offline.instance_codec import CachedInstances, InstanceCodec  # noqa: E402, F401
from ibkd_mm.offline.store import CacheReader, CacheWriter  # noqa: E402, F401

register_config_key("teacher_cache")
