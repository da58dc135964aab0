"""Build the predictor of `ibkd cache` from a config."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from ibkd_mm.distill.interfaces import CachePredictor
from ibkd_mm.distill.teacher import FrozenTeacher, build_teacher
from ibkd_mm.offline.identity import predictor_settings
from ibkd_mm.registry import TASK_UTILS


def build_predictor(config: Config) -> CachePredictor:
    """Build what `cache` runs over images."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    preprocessor = MODELS.build(config.model.architecture.data_preprocessor).to(device)
    teacher = build_teacher(config.model.teacher, config.model.get("teacher_ckpt")).to(device)
    settings = predictor_settings(config.teacher_cache)
    settings.pop("codec", None)
    kind = settings.pop("predictor", "ibkd_mm.InstancePredictor")
    frozen = FrozenTeacher(teacher, preprocessor)
    return TASK_UTILS.build({"type": kind, "teacher": frozen, "preprocessor": preprocessor, **settings})
