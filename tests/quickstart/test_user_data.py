"""Which images are for training, with and without labels, and which for validation."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.quickstart.plan import ImageCounts
from ibkd_mm.quickstart.user_data import read_user_data

Write = Callable[..., Path]


def names(images) -> set[str]:
    return {getattr(each, "file", each).name for each in images}


def test_a_json_has_the_images_that_it_lists_and_a_folder_also_those_next_to_them(write_coco: Write) -> None:
    file = write_coco(labelled=10, empty=2, unlisted=3)
    alone, folder = read_user_data(file), read_user_data(file.parent)
    assert alone.classes == folder.classes == ("cat", "dog")
    assert names(alone.labelled) | names(alone.validation) == {f"{number:03}.png" for number in range(10)}
    assert names(alone.unlabelled) == {"010.png", "011.png"}
    assert names(folder.unlabelled) == {"010.png", "011.png", "012.png", "013.png", "014.png"}
    assert names(folder.validation) == names(alone.validation)


@pytest.mark.parametrize("folder", [".", "images", "labels"])
def test_images_are_found_next_to_the_json_in_images_and_in_a_folder_with_its_name(
    write_coco: Write, folder: str
) -> None:
    file = write_coco(folder=folder)
    (image, *_) = read_user_data(file).labelled
    assert image.file.parent == (file.parent / folder).resolve()


def test_the_layout_of_coco_itself_is_found(write_coco: Write) -> None:
    Path("own/annotations").mkdir(parents=True)
    file = write_coco("own/annotations/instances_train2017.json", folder="../train2017")
    assert read_user_data(file).labelled[0].file.parent == Path("own/train2017").resolve()


def test_a_fifth_is_held_out_and_stays_so_when_images_are_added(write_coco: Write) -> None:
    few = names(read_user_data(write_coco(labelled=200)).validation)
    assert 25 < len(few) < 55
    more = read_user_data(write_coco(labelled=260))
    assert {name for name in names(more.validation) if name < "200"} == few
    assert not names(more.validation) & names(more.labelled)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_images_are_split_into_training_and_validation(write_coco: Write, count: int) -> None:
    data = read_user_data(write_coco(labelled=count))
    assert len(data.validation) + len(data.labelled) == count
    assert data.validation
    assert data.labelled


def test_a_file_with_val_in_its_name_next_to_one_with_train_is_the_validation_set(write_coco: Write) -> None:
    train = write_coco("own/train.json", labelled=5, folder="train")
    val = write_coco("own/val.json", labelled=3, empty=1, folder="val", start=500)
    data = read_user_data(train.parent)
    assert names(data.labelled) == {f"{number:03}.png" for number in range(5)}
    assert names(data.validation) == {"500.png", "501.png", "502.png", "503.png"}  # one of them is empty
    assert data.annotation_files == [train, val]
    assert not data.unlabelled  # validation images are not trained on


def test_images_in_other_folders_are_counted_and_not_used(write_coco: Write) -> None:
    file = write_coco(labelled=10, unlisted=2)
    maps = {"SegmentationClass": 3, "images/masks": 2, "shown/of/today": 1, ".": 1}
    for folder, count in maps.items():
        (file.parent / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (file.parent / folder / f"map{number}.png").write_bytes(bytes([number]))
    data = read_user_data(file.parent)
    assert names(data.unlabelled) == {"010.png", "011.png"}
    assert data.ignored_folders == {(file.parent / folder).resolve(): count for folder, count in maps.items()}
    assert not read_user_data(file).ignored_folders  # a JSON alone is all of the data


def test_images_in_a_folder_called_unlabelled_are_used(write_coco: Write) -> None:
    file = write_coco(labelled=10)
    image = next(file.parent.glob("**/*.png"))
    for number, name in enumerate(("unlabelled", "more/Unlabeled images/deep")):
        (file.parent / name).mkdir(parents=True)
        changed = cv2.imread(str(image)) // (2 + number)
        cv2.imwrite(str(file.parent / name / "a.png"), changed)
    data = read_user_data(file.parent)
    assert sorted(each.parent.name for each in data.unlabelled) == ["deep", "unlabelled"]
    assert data.ignored_folders == {}


def test_images_next_to_listed_ones_are_found_in_a_linked_folder(write_coco: Write, tmp_path: Path) -> None:
    file = write_coco(labelled=10, unlisted=3)
    folder = next(file.parent.glob("**/*.png")).parent
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)
    data = read_user_data(file.parent)
    assert [each.parent for each in data.unlabelled] == [elsewhere.resolve()] * 3


def test_images_next_to_listed_ones_are_used_in_every_folder(write_coco: Write) -> None:
    train = write_coco("own/train.json", labelled=5, unlisted=1, folder="train")
    write_coco("own/val.json", labelled=3, unlisted=1, folder="val", start=500)
    data = read_user_data(train.parent)
    assert names(data.unlabelled) == {"005.png", "503.png"}
    assert data.ignored_folders == {}


def test_if_listed_images_are_links_the_images_next_to_the_links_are_used(write_coco: Write) -> None:
    file = write_coco(labelled=5, unlisted=1)
    store = Path("store").resolve()
    (file.parent / "images").rename(store)
    (file.parent / "images").mkdir()
    for number, each in enumerate(sorted(store.iterdir())):
        (file.parent / "images" / each.name).symlink_to(each.rename(store / str(number)))
    data = read_user_data(file.parent)
    assert names(data.unlabelled) == {"005.png"}
    assert names(data.labelled) | names(data.validation) == {f"00{number}.png" for number in range(5)}


def test_links_and_copies_of_validation_images_are_not_trained_on(write_coco: Write) -> None:
    file = write_coco(labelled=10)
    held, *_ = read_user_data(file.parent).validation
    beside = held.file.parent
    (beside / "linked.png").symlink_to(held.file)
    (beside / "copied.png").write_bytes(held.file.read_bytes())
    (beside / "other.png").write_bytes(held.file.read_bytes()[:-1] + b"x")  # of the same size
    assert names(read_user_data(file.parent).unlabelled) == {"other.png"}


def test_a_labelled_image_that_is_also_in_the_validation_set_is_not_trained_on(write_coco: Write) -> None:
    train = write_coco("own/train.json", labelled=5, folder="train")
    write_coco("own/val.json", labelled=3, folder="val", start=3)  # 003 and 004 are there, too: copies
    data = read_user_data(train.parent)
    assert names(data.labelled) == {"000.png", "001.png", "002.png"}
    assert names(data.validation) == {"003.png", "004.png", "005.png"}
    write_coco("all/train.json", labelled=3)
    write_coco("all/val.json", labelled=3)
    with pytest.raises(UserError, match=r"found no training image in all/train.json"):
        read_user_data(Path("all"))


def test_hidden_files_and_those_of_a_quickstart_are_not_data(write_coco: Write) -> None:
    file = write_coco(labelled=10, unlisted=1)
    wanted = read_user_data(file.parent)
    for folder in ("own/quickstart/data", "own/.cache", "own/images"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    for name in ("own/quickstart/data/train.json", "own/.cache/train.json", "own/quickstart/quickstart.json"):
        Path(name).write_text(file.read_text())
    for name in ("own/quickstart/figure.png", "own/.cache/x.png", "own/images/._000.png"):
        Path(name).write_bytes(b"not of the data")
    assert read_user_data(file.parent) == wanted


def test_images_of_one_name_in_several_folders_have_a_fixed_order(write_coco: Write) -> None:
    """The cache keeps predictions by their number."""
    file = write_coco(labelled=4)
    content = json.loads(file.read_text())
    for number, folder in enumerate("gcafbed"):
        place = file.parent / "images" / folder
        place.mkdir()
        for name in ("listed.png", "same.png"):
            (place / name).write_bytes(name.encode() + bytes([number]))
        content["images"].append({"id": number, "file_name": f"{folder}/listed.png", "width": 1, "height": 1})
    file.write_text(json.dumps(content))
    unlabelled = read_user_data(file.parent).unlabelled
    assert [each.parent.name for each in unlabelled if each.name == "same.png"] == list("abcdefg")


@pytest.mark.parametrize("part", ["images", "categories"])
def test_an_id_that_occurs_twice_is_refused(write_coco: Write, part: str) -> None:
    """The annotations of one image would be those of another."""
    file = write_coco()
    content = json.loads(file.read_text())
    content[part][1]["id"] = content[part][0]["id"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"expected a different id for each of the {part}, found one twice"):
        read_user_data(file)


def test_several_annotation_files_are_named_in_the_error(write_coco: Write) -> None:
    files = [write_coco(f"own/{name}.json") for name in ("a", "b", "c")]
    with pytest.raises(UserError, match=r"Give one of them") as refused:
        read_user_data(files[0].parent)
    assert all(str(file) in str(refused.value) for file in files)
    assert len(read_user_data(files[0]).classes) == 2


def test_a_path_without_annotations_is_refused(write_coco: Write) -> None:
    file = write_coco()
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        read_user_data(Path("nowhere"))
    Path("own/other.json").write_text('{"images": []}')
    with pytest.raises(UserError, match=r"is not a COCO JSON"):
        read_user_data(Path("own/other.json"))
    assert len(read_user_data(file.parent).labelled) > 1  # the other file does not matter
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"expected a COCO JSON in empty, found none"):
        read_user_data(Path("empty"))
    with pytest.raises(UserError, match=r"at least 2 images with annotations in .*, found 1"):
        read_user_data(write_coco("one/labels.json", labelled=1))
    with pytest.raises(UserError, match=r"with annotations in .*, found 0"):
        read_user_data(write_coco("none/labels.json", labelled=0, empty=4))


def test_missing_images_and_broken_entries_are_named(write_coco: Write) -> None:
    file = write_coco(folder="elsewhere")
    with pytest.raises(UserError, match=r"looked for '000.png' and others in own, own/images, own/labels"):
        read_user_data(file)
    content = json.loads(write_coco().read_text())
    content["annotations"][3]["category_id"] = 99
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"the category or image of annotation 103 is missing"):
        read_user_data(file)
    del content["annotations"][3]["category_id"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"not in COCO format: KeyError: 'category_id'"):
        read_user_data(file)


def test_categories_must_be_the_same_in_both_files(write_coco: Write) -> None:
    write_coco("own/train.json", folder="train")
    write_coco("own/val.json", folder="val", categories=({"id": 1, "name": "cow"},), start=500)
    with pytest.raises(UserError, match=r"train.json in own/val.json: cat, dog; found cow"):
        read_user_data(Path("own"))
    turned = ({"id": 1, "name": "dog"}, {"id": 2, "name": "cat"})
    write_coco("own/val.json", folder="val", categories=turned, start=500)
    data = read_user_data(Path("own"))  # labels go by names
    data.write(Path("out"), data.counts)
    found = json.loads(Path("out/val.json").read_text())
    assert [category["name"] for category in found["categories"]] == ["cat", "dog"]
    assert [each["category_id"] for each in found["annotations"][:2]] == [2, 1]
    twice = ({"id": 1, "name": "cow"}, {"id": 2, "name": "cow"})
    with pytest.raises(UserError, match=r"different name for each category, found cow, cow"):
        read_user_data(write_coco("twice/labels.json", categories=twice))


def test_written_files_have_labelled_images_first_and_categories_in_the_order_of_the_classes(
    write_coco: Write,
) -> None:
    data = read_user_data(write_coco(labelled=10, unlisted=3).parent)
    data.write(Path("out"), ImageCounts(4, 2, 1))
    train, val = (json.loads(Path("out", name).read_text()) for name in ("train.json", "val.json"))
    assert [category["name"] for category in train["categories"]] == ["cat", "dog"]
    assert [Path(image["file_name"]).is_file() for image in train["images"]] == [True] * 6
    assert [(image["width"], image["height"]) for image in train["images"]] == [(64, 48)] * 6
    assert [each["image_id"] for each in train["annotations"]] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [each["category_id"] for each in train["annotations"]] == [1, 2] * 4
    assert [each["bbox"][0] for each in train["annotations"][:2]] == [4, 34]  # the cat stands on the left
    assert (len(val["images"]), len(val["annotations"])) == (1, 2)
    again = Path("out/train.json").read_bytes()
    read_user_data(Path("own")).write(Path("out"), ImageCounts(4, 2, 1))
    assert Path("out/train.json").read_bytes() == again
