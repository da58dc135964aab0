"""Test-time augmentation set up in a config."""

import copy
from typing import Any

from mmengine.config import Config, ConfigDict

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.errors import UserError

_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")


def enable_tta(config: Config) -> None:
    """Wrap model and test pipeline as the config says under `tta_*`, or else to merge mirrored boxes."""
    if config.get("default_scope") == "mmseg" and not ("tta_model" in config and "tta_pipeline" in config):
        raise UserError(
            "--tta for a segmentor needs tta_model and tta_pipeline in the config; one is lacking."
        )
    dataset = innermost_dataset(config.test_dataloader.dataset)
    pipeline = config.get("tta_pipeline") or _flipped(dataset.pipeline)
    tta_model = config.get("tta_model") or {}
    if "DetTTAModel" in tta_model.get("type", "DetTTAModel") and _predicts_masks(config.model):
        raise UserError(
            "--tta cannot merge instance masks: mmdet's DetTTAModel merges boxes only, and this model "
            "predicts masks. Leave --tta out, or give a tta_model that can."
        )
    config.model = ConfigDict(**(tta_model or _merging_boxes(config.model)), module=config.model)
    dataset.pipeline = pipeline


def _merging_boxes(model: Any) -> dict[str, Any]:
    """Merge as the model itself merges the boxes of one view."""
    test_cfg = model.get("test_cfg") or {}
    test_cfg = test_cfg.get("rcnn") or test_cfg
    if not (test_cfg.get("nms") and test_cfg.get("max_per_img")):
        raise UserError(
            "--tta merges boxes by the nms and max_per_img of model.test_cfg, and this model has none there. "
            "Give the config a tta_model, or leave --tta out."
        )
    return {"type": "DetTTAModel", "tta_cfg": {name: test_cfg[name] for name in ("nms", "max_per_img")}}


def _flipped(pipeline: list[Any]) -> list[Any]:
    """Each picture as it is and mirrored, in place of the pipeline's last step, the packing."""
    flips = [{"type": "RandomFlip", "prob": 1.0}, {"type": "RandomFlip", "prob": 0.0}]
    packing = [{"type": "PackDetInputs", "meta_keys": _META}]
    return [*copy.deepcopy(list(pipeline[:-1])), {"type": "TestTimeAug", "transforms": [flips, packing]}]


def _predicts_masks(model: Any) -> bool:
    """Whether a detector's config names a mask head, or a head that predicts masks by itself."""
    roi_head = model.get("roi_head") or {}
    if isinstance(roi_head, dict) and roi_head.get("mask_head"):
        return True
    heads = [model.get(name) or {} for name in ("mask_head", "bbox_head", "panoptic_head", "segm_head")]
    named = " ".join(str(head.get("type")) for head in heads if isinstance(head, dict))
    return bool(model.get("mask_head")) or any(
        word in named for word in ("Mask", "Ins", "Seg", "SOLO", "YOLACT")
    )
