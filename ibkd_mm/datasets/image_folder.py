"""Unlabelled images as a dataset."""

import os
from pathlib import Path
from typing import Any

from mmdet.datasets import BaseDetDataset

from ibkd_mm.errors import UserError
from ibkd_mm.registry import DATASETS

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def list_images(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, in the same order on every system."""
    files = [each for each in folder.rglob("*") if each.suffix.lower() in IMAGE_SUFFIXES and each.is_file()]
    if not files:
        raise UserError(f"Expected images ({', '.join(IMAGE_SUFFIXES)}) in {folder}, found none.")
    return sorted(files)


@DATASETS.register_module()
class ImageFolder(BaseDetDataset):
    """All images in a folder, without instances; `img_id` is the path inside the folder.

    `ibkd cache --images` uses the same ids. In the pipeline, `NoAnnotations` takes the place of
    `LoadAnnotations`, and `LoadTeacherInstances` follows it.

    Args:
        data_root: folder of the images; subfolders are included.
        **kwargs: arguments of mmdet's `BaseDetDataset`; `metainfo` must contain the classes.
    """

    def __init__(self, data_root: str, **kwargs: Any) -> None:
        super().__init__(ann_file="", data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images."""
        infos, folder = [], Path(self.data_root)
        for file in list_images(folder):
            path = os.fsencode(file.relative_to(folder).as_posix())
            img_id = path.decode(errors="backslashreplace")  # the bytes of a file name may be no valid text
            infos.append({"img_path": str(file), "img_id": img_id, "instances": []})
        return infos
