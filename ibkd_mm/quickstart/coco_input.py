"""Find and read a user's COCO annotations."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibkd_mm.errors import UserError
from ibkd_mm.quickstart.plan import PLAN_FILE

COCO_LISTS = ("images", "annotations", "categories")
_LOOKED_UP_IMAGES, _SHOWN_FILES = 20, 5


@dataclass(frozen=True)
class CocoImage:
    """An image, its size and its COCO annotations, each with its category's name as `category`."""

    file: Path
    width: int
    height: int
    annotations: Sequence[dict[str, Any]] = ()


def find_annotation_files(path: Path) -> tuple[Path, Path | None]:
    """Find the annotations for training and, if there is such a file, for validation."""
    if path.is_file():
        if not _is_coco(path):
            raise UserError(f"--data: {path} is not a COCO JSON (with lists of {', '.join(COCO_LISTS)}).")
        return path, None
    if not path.is_dir():
        raise UserError(f"--data: expected a COCO JSON or a folder with one, and {path} does not exist.")
    found = [file for file in files_below(path) if file.suffix.lower() == ".json" and _is_coco(file)]
    if len(found) == 1:
        return found[0], None
    train = [file for file in found if "train" in file.stem.lower()]
    val = [file for file in found if "val" in file.stem.lower()]
    if len(found) == 2 and len(train) == len(val) == 1 and train != val:
        return train[0], val[0]
    if not found:
        raise UserError(f"--data: expected a COCO JSON in {path}, found none.")
    more = f" and {len(found) - _SHOWN_FILES} more" if len(found) > _SHOWN_FILES else ""
    raise UserError(
        f"--data: expected one COCO JSON in {path}, or one with 'train' and one with 'val' in its name; "
        f"found {', '.join(map(str, found[:_SHOWN_FILES]))}{more}. Give one of them."
    )


def read_coco(file: Path) -> tuple[tuple[str, ...], list[CocoImage]]:
    """Read the names of the categories and the images of an annotation file."""
    content = json.loads(file.read_bytes())
    try:
        categories = {each["id"]: str(each["name"]) for each in content["categories"]}
        annotations: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
        for name, ids in (("categories", categories), ("images", annotations)):
            if len(ids) < len(content[name]):
                raise UserError(f"{file}: expected a different id for each of the {name}, found one twice.")
        for each in content["annotations"]:
            if each["category_id"] not in categories or each["image_id"] not in annotations:
                missing = f"the category or image of annotation {each.get('id')} is missing in the file."
                raise UserError(f"{file}: {missing}")
            annotations[each["image_id"]].append({**each, "category": categories[each["category_id"]]})
        folder = _find_image_folder(file, [str(image["file_name"]) for image in content["images"]])
        images = []
        for each in content["images"]:
            # not resolved, which would follow a link to the image: unlabelled images lie next to the link
            path, size = folder / each["file_name"], (int(each["width"]), int(each["height"]))
            images.append(CocoImage(path.parent.resolve() / path.name, *size, annotations[each["id"]]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not in COCO format: {type(error).__name__}: {error}.") from error
    names = tuple(categories.values())
    if len(set(names)) < len(names) or not names:
        found = ", ".join(names) or "none"
        raise UserError(f"{file}: expected a different name for each category, found {found}.")
    return names, images


def write_coco(file: Path, classes: Sequence[str], images: Iterable[CocoImage]) -> None:
    """Write an annotation file whose categories are the classes in their order."""
    category_ids = {name: number for number, name in enumerate(classes, start=1)}
    content: dict[str, list[dict[str, Any]]] = {name: [] for name in COCO_LISTS}
    for number, image in enumerate(images, start=1):
        size = {"width": image.width, "height": image.height}
        content["images"].append({"id": number, "file_name": str(image.file), **size})
        for each in image.annotations:
            settings = {name: value for name, value in each.items() if name != "category"}
            ids = {"id": 1 + len(content["annotations"]), "category_id": category_ids[each["category"]]}
            content["annotations"].append({**settings, **ids, "image_id": number})
    content["categories"] = [{"id": number, "name": name} for name, number in category_ids.items()]
    file.write_text(json.dumps(content))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, except for hidden ones and those of a quickstart."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink() and not (path / PLAN_FILE).is_file():
            yield from files_below(path)


def _is_coco(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and all(isinstance(content.get(name), list) for name in COCO_LISTS)


def _find_image_folder(file: Path, names: Sequence[str]) -> Path:
    """Find the folder with the images of an annotation file: its own, `images`, or one with its name."""
    parents = [file.parent, *([file.parent.parent] if file.parent.name == "annotations" else [])]
    subfolders = ("", "images", file.stem, file.stem.removeprefix("instances_"))
    folders = [parent / subfolder for parent in parents for subfolder in subfolders]
    looked_up = names[:_LOOKED_UP_IMAGES]
    found = Counter({folder: sum((folder / name).is_file() for name in looked_up) for folder in folders})
    folder, count = found.most_common(1)[0]
    if not count:
        raise UserError(
            f"The images of {file} are missing: looked for '{names[0] if names else 'any'}' and others in "
            f"{', '.join(map(str, dict.fromkeys(folders)))}."
        )
    return folder
