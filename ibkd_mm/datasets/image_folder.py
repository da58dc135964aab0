"""Pictures that nobody labelled, as a data set."""

import os
from pathlib import Path
from typing import Any

from mmdet.datasets import BaseDetDataset

from ibkd_mm.errors import UserError
from ibkd_mm.registry import DATASETS

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def list_images(folder: Path) -> list[Path]:
    """Find the pictures under a folder, in one order everywhere; refuse one without any."""
    files = sorted(each for each in folder.rglob("*") if each.suffix.lower() in PICTURES and each.is_file())
    if not files:
        raise UserError(f"Expected pictures ({', '.join(PICTURES)}) in {folder}, found none.")
    return files


@DATASETS.register_module()
class ImageFolder(BaseDetDataset):
    """All pictures under a folder, without instances, each called by its path in the folder (`img_id`).

    So `ibkd cache --images` calls them too. In its pipeline `NoAnnotations` stands where `LoadAnnotations`
    would, and `LoadTeacherInstances` behind that.

    Args:
        data_root: the folder, looked through to the bottom.
        **kwargs: as for mmdet's `BaseDetDataset`; `metainfo` says the classes, which no folder does.
    """

    def __init__(self, data_root: str, **kwargs: Any) -> None:
        super().__init__(ann_file="", data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the pictures."""
        folder = Path(self.data_root)
        return [
            {"img_path": str(file), "img_id": _name_of(file.relative_to(folder)), "instances": []}
            for file in list_images(folder)
        ]


def _name_of(file: Path) -> str:
    """Write a path as text that can be stored, whatever bytes are in it."""
    return os.fsencode(file.as_posix()).decode(errors="backslashreplace")
