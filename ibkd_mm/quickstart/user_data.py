"""A user's own pictures: with labels to learn from, without labels, and some held out to judge by."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from ibkd_mm.datasets.image_folder import IMAGE_SUFFIXES
from ibkd_mm.errors import UserError
from ibkd_mm.quickstart.image_sizes import size_of
from ibkd_mm.quickstart.plan import FILE, Amounts
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.digest import hash_of_file

TRAIN, VAL = "train.json", "val.json"

_PARTS = ("images", "annotations", "categories")
_UNLABELLED = re.compile("unlabell?ed", re.IGNORECASE)
"""What the name of a folder says whose pictures are to be learnt from without labels."""
_HELD_SHARE = 0.2
_MOST, _MOST_HELD = 4000, 500
"""More pictures than any quickstart has time for; which of them are taken is drawn by their names."""
_LOOKED_AT = 20
_SHOWN = 5


@dataclass(frozen=True)
class Labelled:
    """A picture of an annotation file."""

    file: Path
    width: int
    height: int
    annotations: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class UserData:
    """Pictures in the order in which they are taken.

    Args:
        classes: names, in the order of their labels.
        labelled: to learn from.
        unlabelled: to learn from by what a teacher sees.
        held: to judge by.
        found: the annotation files.
        left_out: folders whose pictures are not taken, and how many those are.
    """

    classes: tuple[str, ...]
    labelled: Sequence[Labelled]
    unlabelled: Sequence[Path]
    held: Sequence[Labelled]
    found: Sequence[Path]
    left_out: Mapping[Path, int]

    @property
    def amounts(self) -> Amounts:
        """Count them."""
        return Amounts(len(self.labelled), len(self.unlabelled), len(self.held))

    def side(self) -> int:
        """Give the longest side of a labelled picture, in pixels."""
        return max(max(picture.width, picture.height) for picture in (*self.labelled, *self.held))

    def write(self, folder: Path, amounts: Amounts) -> None:
        """Write so many of them as two annotation files; those with labels come first."""
        folder.mkdir(parents=True, exist_ok=True)
        bare = [_without_labels(file) for file in self.unlabelled[: amounts.unlabelled]]
        _write(folder / TRAIN, self.classes, [*self.labelled[: amounts.labelled], *bare])
        _write(folder / VAL, self.classes, self.held[: amounts.held])


def read_user_data(path: Path) -> UserData:
    """Read COCO annotations, or a folder that holds them and, beside what they list, other pictures."""
    train, val = _find(path)
    classes, pictures = _read(train)
    labelled = [picture for picture in pictures if picture.annotations]
    unlabelled = {picture.file for picture in pictures if not picture.annotations}
    if val is None:
        labelled, held = _hold_out(labelled, train)
    else:
        val_classes, held = _read(val)
        if sorted(val_classes) != sorted(classes):
            raise UserError(
                f"Expected the categories of {train} in {val}: {_listed(classes)}; "
                f"found {_listed(val_classes)}."
            )
    unlisted, left_out = _unlisted(path, [*pictures, *held])
    unlabelled |= unlisted
    unlabelled -= {picture.file for picture in labelled}
    is_held = _equals([picture.file for picture in held])
    labelled = [picture for picture in labelled if not is_held(picture.file)]
    if not labelled or not any(picture.annotations for picture in held):
        raise UserError(
            "Expected pictures with annotations to learn from and others to judge by, found none "
            + (f"to judge by in {val or train}." if labelled else f"to learn from in {train}.")
        )
    drawn = sorted(labelled, key=lambda picture: _order(picture.file))[:_MOST]
    others = (each for each in sorted(unlabelled, key=_order) if not is_held(each))
    return UserData(
        classes,
        drawn,
        list(islice(others, _MOST - len(drawn))),
        sorted(held, key=lambda picture: _order(picture.file))[:_MOST_HELD],
        [train, *([val] if val else [])],
        left_out,
    )


def _unlisted(path: Path, listed: Iterable[Labelled]) -> tuple[set[Path], Counter[Path]]:
    """Find the pictures beside listed ones and in folders that say so, and count those of other folders.

    Pictures of other folders are as often label maps or drawings, which nothing is to be learnt from.
    """
    if not path.is_dir():
        return set(), Counter()
    beside = {each for folder in {picture.file.parent for picture in listed} for each in folder.iterdir()}
    root = path.resolve()
    below, found = set(filter(_is_picture, _below(root))), set(filter(_is_picture, beside))
    found |= {each for each in below if _UNLABELLED.search(str(each.parent.relative_to(root)))}
    return found, Counter(each.parent for each in below - found)


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()


def _below(folder: Path) -> Iterator[Path]:
    """Give all files below a folder, but for hidden ones and for what a quickstart has written there."""
    for each in sorted(folder.iterdir()):
        if each.name.startswith("."):
            continue
        if each.is_file():
            yield each
        elif each.is_dir() and not each.is_symlink() and not (each / FILE).is_file():
            yield from _below(each)


def _equals(files: Iterable[Path]) -> Callable[[Path], bool]:
    """Tell a picture that is one of these, were it by a link or as a copy of another name."""
    of_size: dict[int, list[Path]] = {}
    for file in files:
        of_size.setdefault(_size(file), []).append(file)
    contents = cache(lambda size: {hash_of_file(file) for file in of_size[size]})

    def is_one(file: Path) -> bool:
        size = _size(file)
        return size > 0 and size in of_size and hash_of_file(file) in contents(size)

    return is_one


def _size(file: Path) -> int:
    """Give the bytes of a file; 0 where it is not there, which is for the check to name."""
    return file.stat().st_size if file.is_file() else 0


def _find(path: Path) -> tuple[Path, Path | None]:
    """Find the annotations to train with and, if there are such, to judge by."""
    if path.is_file():
        if not _is_coco(path):
            raise UserError(f"--data: {path} is no COCO JSON (with lists of {', '.join(_PARTS)}).")
        return path, None
    if not path.is_dir():
        raise UserError(f"--data: expected a COCO JSON or a folder with one, and there is no {path}.")
    found = [file for file in _below(path) if file.suffix.lower() == ".json" and _is_coco(file)]
    if len(found) == 1:
        return found[0], None
    judging = [file for file in found if "val" in file.stem.lower()]
    training = [file for file in found if "train" in file.stem.lower()]
    if len(found) == 2 and len(judging) == len(training) == 1 and judging != training:
        return training[0], judging[0]
    if not found:
        raise UserError(f"--data: expected a COCO JSON in {path}, found none.")
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise UserError(
        f"--data: expected one COCO JSON in {path}, or one with 'train' and one with 'val' in its name; "
        f"found {', '.join(map(str, found[:_SHOWN]))}{more}. Give one of them."
    )


def _is_coco(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in _PARTS)


def _read(file: Path) -> tuple[tuple[str, ...], list[Labelled]]:
    content = json.loads(file.read_bytes())
    try:
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        of_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
        for part, ids in (("categories", names), ("images", of_image)):
            if len(ids) < len(content[part]):
                raise UserError(f"{file}: expected {part} of different ids, found some id twice.")
        for annotation in content["annotations"]:
            known = annotation["category_id"] in names
            if not known or annotation["image_id"] not in of_image:
                raise UserError(
                    f"{file}: annotation {annotation.get('id')} is of a category or an image that it lacks."
                )
            named = {**annotation, "category": names[annotation["category_id"]]}
            of_image[annotation["image_id"]].append(named)
        folder = _pictures_of(file, [str(image["file_name"]) for image in content["images"]])
        pictures = [
            Labelled(
                _placed(folder / image["file_name"]),
                int(image["width"]),
                int(image["height"]),
                of_image[image["id"]],
            )
            for image in content["images"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not in COCO format: {type(error).__name__}: {error}.") from error
    if len(set(names.values())) < len(names) or not names:
        raise UserError(f"{file}: expected categories of different names, found {_listed(names.values())}.")
    return tuple(names.values()), pictures


def _pictures_of(file: Path, names: Sequence[str]) -> Path:
    """Find the folder that an annotation file's names start from: its own, `images`, or one of its name."""
    stem = file.stem.removeprefix("instances_")
    above = [file.parent, *([file.parent.parent] if file.parent.name == "annotations" else [])]
    places = [place for base in above for place in (base, base / "images", base / file.stem, base / stem)]
    found = Counter({place: sum((place / name).is_file() for name in names[:_LOOKED_AT]) for place in places})
    best, count = max(found.items(), key=lambda pair: pair[1]) if found else (file.parent, 0)
    if not count:
        looked = ", ".join(map(str, dict.fromkeys(places)))
        raise UserError(
            f"The pictures of {file} are not there: looked for '{names[0] if names else 'any'}' and others "
            f"in {looked}."
        )
    return best


def _placed(file: Path) -> Path:
    """Make a path absolute; a link stays one, for it is where it stands that others are looked for."""
    return file.parent.resolve() / file.name


def _hold_out(labelled: list[Labelled], file: Path) -> tuple[list[Labelled], list[Labelled]]:
    """Take a fifth by their names, so that the same are taken again when others have come."""
    if len(labelled) < 2:
        raise UserError(f"Expected at least 2 pictures with annotations in {file}, found {len(labelled)}.")
    ordered = sorted(labelled, key=lambda picture: _order(picture.file))
    count = sum(_draw(picture.file) < _HELD_SHARE for picture in ordered)
    count = min(max(count, 1), len(ordered) - 1)
    return ordered[count:], ordered[:count]


def _draw(file: Path) -> float:
    """Draw a number between 0 and 1 by a file's name."""
    digest = hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _order(file: Path) -> tuple[float, Path]:
    """Sort as drawn; files of one name in several folders stand in one order at every start."""
    return _draw(file), file


@cache
def _without_labels(file: Path) -> Labelled:
    """Read the size of a picture that no file tells; one that cannot be read is for the check to name."""
    return Labelled(file, *size_of(file), ())


def _write(file: Path, classes: Sequence[str], pictures: Sequence[Labelled]) -> None:
    label = {name: 1 + place for place, name in enumerate(classes)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        images.append(
            {"id": number, "file_name": str(picture.file), "width": picture.width, "height": picture.height}
        )
        for each in picture.annotations:
            own = {
                **each,
                "id": 1 + len(annotations),
                "image_id": number,
                "category_id": label[each["category"]],
            }
            del own["category"]
            annotations.append(own)
    categories = [{"id": number, "name": name} for name, number in label.items()]
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(dict(zip(_PARTS, (images, annotations, categories), strict=True))))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
