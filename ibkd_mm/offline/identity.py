"""The identity of a cache: everything that its entries depend on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ibkd_mm.config.load import resolve_model
from ibkd_mm.config.walk import to_builtin
from ibkd_mm.datasets.image_folder import list_images
from ibkd_mm.engine.checkpoint.sources import locate
from ibkd_mm.registry import TASK_UTILS
from ibkd_mm.utils.digest import hash_of_file, hash_of_value

DEFAULT_CODEC = "ibkd_mm.InstanceCodec"
_HOW_IT_IS_WRITTEN = ("path", "batch_size", "workers")
_HASH_DIGITS = 16
_NAMED_CLASSES = 10
_FORMER_NAMES = {"part_share": "min_component_ratio", "levels": "mask_thresholds", "top": "topk_classes"}


def identity_of(
    teacher: str | Mapping[str, Any],
    checkpoint: str | None,
    images: Path | None,
    pipeline: Any,
    teacher_cache: Mapping[str, Any],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Describe everything that the entries of a cache depend on.

    `images` is their annotation file or folder, or None for any; `pipeline` what leads to the teacher.
    """
    model = resolve_model(teacher, checkpoint)
    settings = predictor_settings(teacher_cache)
    codec = settings.pop("codec", DEFAULT_CODEC)
    return {
        "teacher": f"{model.settings['type']} {_short_hash(model.settings)}",
        "weights": file_hash(locate(model.checkpoint)) if model.checkpoint else "none",
        "images": "any" if images is None else images_hash(images),
        "pipeline": _short_hash(pipeline),
        "settings": settings,
        "classes": class_list(classes),
        "codec": codec,
        "version": codec_of({"codec": codec, "settings": settings}).version,
    }


def predictor_settings(teacher_cache: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config's `teacher_cache` says of the entries themselves."""
    settings = to_builtin(teacher_cache)
    return {name: value for name, value in settings.items() if name not in _HOW_IT_IS_WRITTEN}


def codec_of(identity: Mapping[str, Any]) -> Any:
    """Build the codec of a cache's entries."""
    codec = identity.get("codec", DEFAULT_CODEC)
    return TASK_UTILS.build({"type": codec, "settings": identity.get("settings", {})})


def upgraded(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a cache that was written before 0.1.0, when only instances could be cached."""
    if "codec" in identity:
        return dict(identity)
    settings = {_FORMER_NAMES.get(name, name): value for name, value in identity.get("settings", {}).items()}
    if "pictures" in identity:
        settings = {"mask_thresholds": [0.5], **settings}
    renamed = {"images" if name == "pictures" else name: value for name, value in identity.items()}
    return {**renamed, "settings": settings, "codec": DEFAULT_CODEC}


def class_list(classes: Sequence[str]) -> str:
    """List classes in their order; of many, the first ones and a hash of all."""
    first = ", ".join(classes[:_NAMED_CLASSES])
    if len(classes) <= _NAMED_CLASSES:
        return first
    return f"{first}, ... {len(classes)} in all, {_short_hash(list(classes))}"


def images_hash(path: Path) -> str:
    """Hash an annotation file; of a folder, the names and sizes of its images."""
    if not path.is_dir():
        return file_hash(path)
    images = list_images(path)
    return _short_hash([(each.relative_to(path).as_posix(), each.stat().st_size) for each in images])


def file_hash(path: Path) -> str:
    """Return the first digits of the hash of a file's content."""
    return hash_of_file(path)[:_HASH_DIGITS]


def _short_hash(value: Any) -> str:
    return hash_of_value(to_builtin(value))[:_HASH_DIGITS]
