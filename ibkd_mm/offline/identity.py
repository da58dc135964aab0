"""What a cache depends on, in a few short words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ibkd_mm.datasets.image_folder import list_images
from ibkd_mm.distill.teacher import describe
from ibkd_mm.engine.checkpoint.sources import locate
from ibkd_mm.offline.instance_codec import HARD, VERSION, mask_thresholds_of, min_component_ratio_of
from ibkd_mm.utils.digest import hash_of_file, hash_of_value

_DIGITS = 16
_FEW = 10


def identity_of(
    teacher: str | Mapping[str, Any],
    checkpoint: str | None,
    pictures: Path | None,
    pipeline: Any,
    settings: Mapping[str, Any],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Name all that the entries of a cache depend on.

    Args:
        teacher: as `FrozenTeacherDistill` is given it.
        checkpoint: its weights.
        pictures: the annotation file that names them, or their folder; None for any.
        pipeline: what is done to a picture before the teacher sees it.
        settings: of what is taken for an instance, and what is kept of it.
        classes: that the teacher's are called by, in its order.
    """
    model, weights, _ = describe(teacher, checkpoint)
    return {
        "teacher": f"{model['type']} {_hash_of(model)}",
        "weights": file_hash(locate(weights)) if weights else "none",
        "pictures": "any" if pictures is None else pictures_hash(pictures),
        "pipeline": _hash_of(pipeline),
        "settings": _plain(settings),
        "classes": named(classes),
        "version": VERSION,
    }


def named(classes: Sequence[str]) -> str:
    """Name classes in their order; of many, some and what tells them all."""
    few = ", ".join(classes[:_FEW])
    return few if len(classes) <= _FEW else f"{few}, ... {len(classes)} in all, {_hash_of(classes)}"


def kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Take of a config's `teacher_cache` what the entries depend on; hard masks are not named."""
    levels = mask_thresholds_of(settings)
    soft = {} if levels == HARD else {"levels": list(levels)}
    always = {
        "instances": settings["instances"],
        "top": settings["top"],
        "min_component_ratio": min_component_ratio_of(settings),
    }
    return {**always, **soft}


def pictures_hash(path: Path) -> str:
    """Hash an annotation file; of a folder, the names and sizes of the pictures in it."""
    if not path.is_dir():
        return file_hash(path)
    files = [(each.relative_to(path).as_posix(), each.stat().st_size) for each in list_images(path)]
    return _hash_of(files)


def file_hash(path: Path) -> str:
    """Hash what is in a file, in short."""
    return hash_of_file(path)[:_DIGITS]


def _hash_of(value: Any) -> str:
    return hash_of_value(_plain(value))[:_DIGITS]


def _plain(value: Any) -> Any:
    """Take what a config holds, without mmengine's marks of where it was inherited from."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if key != "_scope_"}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
