# Learns the teacher's instances from a file: first `ibkd cache` this config.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
cache, given = _base_.teacher_cache.path, _base_.train_dataloader.dataset.pipeline
instances = dict(type="ibkd_mm.LoadTeacherInstances", cache=cache)
cells, split = dict(type="ibkd_mm.MaskCells"), dict(type="ibkd_mm.SplitTeacherInstances", cache=cache)
train_dataloader = dict(dataset=dict(pipeline=[*given[:2], instances, *given[2:], cells, split]))
model = dict(online=False, distiller=_base_.cached)
default_hooks = dict(teacher_check=None, cache_check=dict(type="ibkd_mm.CacheCheckHook"))
