"""What `--auto-scale-lr`, `--show`, `--show-dir` and `--tta` change in a config."""

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.errors import UserError

_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
_MASK_HEAD_NAMES = ("Mask", "Ins", "Seg", "SOLO", "YOLACT")


def enable_lr_scaling(config: Config) -> None:
    """Scale the learning rate with the batch size, from the batch size that the config states."""
    if not config.get("auto_scale_lr", {}).get("base_batch_size"):
        raise UserError(
            "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=N) in the config: the batch size, over "
            "all GPUs, that its learning rate was chosen for. The config has none."
        )
    config.auto_scale_lr.enable = True


def enable_drawing(config: Config, show: bool, show_dir: str | None, wait_time: float) -> str | None:
    """Make the visualization hook draw; return the folder, which mmdet's hook creates beside the log."""
    hook = config.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise UserError(
            "--show and --show-dir need a visualization hook in default_hooks, and the config has none. Add "
            "default_hooks=dict(visualization=dict(type='mmdet.DetVisualizationHook')) to it."
        )
    hook.draw = True
    if show:
        hook.show, hook.wait_time = True, wait_time
    if show_dir and str(hook.type).endswith("SegVisualizationHook"):
        # mmseg's hook has no folder; its visualizer's is relative to the current folder.
        config.visualizer.save_dir = show_dir = str(Path(show_dir).absolute())
    elif show_dir:
        hook.test_out_dir = show_dir
    return show_dir


def enable_tta(config: Config) -> None:
    """Wrap the model and the test pipeline with `tta_model` and `tta_pipeline`, else flip and merge boxes."""
    missing = [key for key in ("tta_model", "tta_pipeline") if key not in config]
    if missing and config.get("default_scope") == "mmseg":
        raise UserError(
            f"--tta for a segmentor needs tta_model and tta_pipeline in the config. "
            f"Add what is missing: {', '.join(missing)}."
        )
    tta_model = config.get("tta_model") or {}
    if "DetTTAModel" in tta_model.get("type", "DetTTAModel") and _predicts_masks(config.model):
        raise UserError(
            "--tta cannot merge instance masks: mmdet's DetTTAModel merges boxes only, and this model "
            "predicts masks. Leave --tta out, or set a tta_model that merges masks."
        )
    config.model = ConfigDict(**(tta_model or _box_merging_model(config.model)), module=config.model)
    dataset = innermost_dataset(config.test_dataloader.dataset)
    dataset.pipeline = config.get("tta_pipeline") or _with_flip(dataset.pipeline)


def _box_merging_model(model: Any) -> dict[str, Any]:
    """Return a TTA model that merges the boxes of all views with the model's own NMS settings."""
    test_cfg = model.get("test_cfg") or {}
    test_cfg = test_cfg.get("rcnn") or test_cfg
    if not (test_cfg.get("nms") and test_cfg.get("max_per_img")):
        raise UserError(
            "--tta merges boxes by the nms and max_per_img of model.test_cfg, and this model has none there. "
            "Add a tta_model to the config, or leave --tta out."
        )
    return {"type": "DetTTAModel", "tta_cfg": {name: test_cfg[name] for name in ("nms", "max_per_img")}}


def _with_flip(pipeline: list[Any]) -> list[Any]:
    """Replace the last step, which packs the inputs, by two views: the image flipped and as it is."""
    flips = [{"type": "RandomFlip", "prob": 1.0}, {"type": "RandomFlip", "prob": 0.0}]
    packing = [{"type": "PackDetInputs", "meta_keys": _META}]
    return [*copy.deepcopy(list(pipeline[:-1])), {"type": "TestTimeAug", "transforms": [flips, packing]}]


def _predicts_masks(model: Any) -> bool:
    """Whether a detector's config has a mask head, or a head whose type predicts masks."""
    roi_head = model.get("roi_head") or {}
    if model.get("mask_head") or (isinstance(roi_head, dict) and roi_head.get("mask_head")):
        return True
    heads = [model.get(name) or {} for name in ("bbox_head", "panoptic_head", "segm_head")]
    types = [str(head.get("type")) for head in heads if isinstance(head, dict)]
    return any(name in head_type for head_type in types for name in _MASK_HEAD_NAMES)
