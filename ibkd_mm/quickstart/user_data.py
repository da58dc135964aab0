"""Split a user's images into labelled and unlabelled training images and validation images."""

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from PIL import Image

from ibkd_mm.data_check.images import ImageFile, read_header, read_image
from ibkd_mm.datasets.image_folder import IMAGE_SUFFIXES
from ibkd_mm.errors import UserError
from ibkd_mm.quickstart.coco_input import (
    CocoImage,
    files_below,
    find_annotation_files,
    read_coco,
    write_coco,
)
from ibkd_mm.quickstart.plan import ImageCounts
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.digest import hash_of_file

TRAIN_FILE, VAL_FILE = "train.json", "val.json"

_UNLABELLED_FOLDER = re.compile("unlabell?ed", re.IGNORECASE)
_VALIDATION_SHARE = 0.2
_MAX_TRAINING, _MAX_VALIDATION = 4000, 500  # more than any quickstart has time for; file names decide which


@dataclass(frozen=True)
class UserData:
    """A user's images in the order of use, classes in that of their labels, and numbers of ignored images."""

    classes: tuple[str, ...]
    labelled: Sequence[CocoImage]
    unlabelled: Sequence[Path]
    validation: Sequence[CocoImage]
    annotation_files: Sequence[Path]
    ignored_folders: Mapping[Path, int]

    @property
    def counts(self) -> ImageCounts:
        """Numbers of images."""
        return ImageCounts(len(self.labelled), len(self.unlabelled), len(self.validation))

    def write(self, folder: Path, counts: ImageCounts) -> None:
        """Write annotation files for that many images; labelled training images come first."""
        folder.mkdir(parents=True, exist_ok=True)
        unlabelled = [_without_annotations(file) for file in self.unlabelled[: counts.unlabelled]]
        train = [*self.labelled[: counts.labelled], *unlabelled]
        for name, images in ((TRAIN_FILE, train), (VAL_FILE, self.validation[: counts.validation])):
            with atomic_write(folder / name) as partial:
                write_coco(partial, self.classes, images)


def read_user_data(path: Path) -> UserData:
    """Read a COCO JSON, or a folder with such annotations and more images.

    Images without annotations and, in a folder, images next to the listed ones are unlabelled.
    """
    train, val = find_annotation_files(path)
    classes, images = read_coco(train)
    labelled = [image for image in images if image.annotations]
    if val is None:
        labelled, validation = _hold_out(labelled, train)
    else:
        val_classes, validation = read_coco(val)
        if sorted(val_classes) != sorted(classes):
            raise UserError(
                f"Expected the categories of {train} in {val}: {', '.join(classes)}; "
                f"found {', '.join(val_classes)}."
            )
    unlisted, ignored_folders = _find_unlisted(path, [*images, *validation])
    unlabelled = {image.file for image in images if not image.annotations} | unlisted
    unlabelled -= {image.file for image in labelled}
    is_validation = _content_matcher(image.file for image in validation)
    labelled = [image for image in labelled if not is_validation(image.file)]
    if not labelled or not any(image.annotations for image in validation):
        found = f"no validation image in {val or train}" if labelled else f"no training image in {train}"
        raise UserError(f"Expected images with annotations for training and for validation, found {found}.")
    labelled = _in_order(labelled)[:_MAX_TRAINING]
    others = (file for file in sorted(unlabelled, key=_order) if not is_validation(file))
    return UserData(
        classes=classes,
        labelled=labelled,
        unlabelled=list(islice(others, _MAX_TRAINING - len(labelled))),
        validation=_in_order(validation)[:_MAX_VALIDATION],
        annotation_files=[train, *([val] if val else [])],
        ignored_folders=ignored_folders,
    )


def _find_unlisted(path: Path, listed: Iterable[CocoImage]) -> tuple[set[Path], Counter[Path]]:
    """Find images next to listed ones and in folders named "unlabelled".

    Images in other folders are only counted because many are label maps or drawings.
    """
    if not path.is_dir():
        return set(), Counter()
    root = path.resolve()
    folders = {image.file.parent for image in listed}
    siblings = {file for folder in folders if folder.is_dir() for file in folder.iterdir()}
    found, below = set(filter(_is_image, siblings)), set(filter(_is_image, files_below(root)))
    found |= {file for file in below if _UNLABELLED_FOLDER.search(str(file.parent.relative_to(root)))}
    return found, Counter(file.parent for file in below - found)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def _content_matcher(files: Iterable[Path]) -> Callable[[Path], bool]:
    """Return a function that recognises these images, also through links and as copies."""
    by_size: dict[int, list[Path]] = {}
    for file in files:
        by_size.setdefault(_file_size(file), []).append(file)
    hashes = cache(lambda size: {hash_of_file(file) for file in by_size[size]})

    def matches(file: Path) -> bool:
        size = _file_size(file)
        return size > 0 and size in by_size and hash_of_file(file) in hashes(size)

    return matches


def _file_size(file: Path) -> int:
    """Return the bytes of a file; 0 if it is missing, which the data check reports."""
    return file.stat().st_size if file.is_file() else 0


def _hold_out(labelled: Sequence[CocoImage], source: Path) -> tuple[list[CocoImage], list[CocoImage]]:
    """Split off validation images by their names, so that more images later do not change the split."""
    if len(labelled) < 2:
        raise UserError(f"Expected at least 2 images with annotations in {source}, found {len(labelled)}.")
    ordered = _in_order(labelled)
    count = sum(_order(image.file)[0] < _VALIDATION_SHARE for image in ordered)
    count = min(max(count, 1), len(ordered) - 1)
    return ordered[count:], ordered[:count]


def _order(file: Path) -> tuple[float, Path]:
    """Return a pseudo-random number from 0 to 1 that depends on the file's name only, and the path."""
    digest = hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64, file


def _in_order(images: Iterable[CocoImage]) -> list[CocoImage]:
    return sorted(images, key=lambda image: _order(image.file))


@cache
def _without_annotations(file: Path) -> CocoImage:
    return CocoImage(file, *size_of(file))


def size_of(file: Path) -> tuple[int, int]:
    """Return width and height of an image as the loader turns it, (0, 0) if it cannot be read."""
    with warnings.catch_warnings(), suppress(Exception):  # decoders raise exceptions of any type
        warnings.simplefilter("ignore")  # about large images
        with Image.open(file) as image:
            if image.format != "PNG" or "exif" in image.info:
                return read_header(image).size(apply_exif=True)
            if b"eXIf" not in file.read_bytes():  # it may follow the pixels
                return image.size
    return read_image(ImageFile(str(file))).size(apply_exif=True)  # decodes all, which takes far longer
