# Learns the teacher's instances from a file: first `ibkd cache` this config.
_base_ = "./ibkd_mask2former-r50_yolov10n_cityscapes_300e.py"
teacher_cache = dict(path="data/cityscapes/mask2former_r50.sqlite")
mixed, cache = _base_.train_dataloader.dataset, dict(cache=teacher_cache["path"])
inner = [*mixed.dataset.pipeline, dict(type="ibkd_mm.LoadTeacherInstances", **cache)]
outer = [*mixed.pipeline, dict(type="ibkd_mm.SplitTeacherInstances", **cache)]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=inner), pipeline=outer))
model = dict(online=False, distiller=_base_.cached)
default_hooks = dict(teacher_check=None, cache_check=dict(type="ibkd_mm.CacheCheckHook"))
