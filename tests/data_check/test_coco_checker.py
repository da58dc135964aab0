"""Compare with CocoDataset: whatever it refuses or filters out completely is found in the file."""

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from ibkd_mm.data_check import check_datasets, find_datasets
from ibkd_mm.errors import UserError


@pytest.mark.parametrize("min_size", [0, 48, 49])
@pytest.mark.parametrize("filter_empty", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("test_mode", [True, False])
def test_a_split_is_empty_exactly_where_mmdet_filters_all(tiny, min_size, filter_empty, labelled, test_mode):
    if not labelled:
        tiny.train["annotations"] = []
    tiny.settings["filter_cfg"] = {"min_size": min_size, "filter_empty_gt": filter_empty}
    tiny.settings["test_mode"] = test_mode
    tiny.write()
    settings = tiny.config().train_dataloader.dataset
    settings.update(pipeline=[], serialize_data=False)
    kinds = {finding.kind for finding in tiny.check()["train"].findings}
    assert ("split-empty" in kinds) == (len(DATASETS.build(settings)) == 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tiny: tiny.entry(10).update(id=20),
        lambda tiny: tiny.entry(10).pop("area"),
        lambda tiny: tiny.entry(10).update(bbox=[1, 2, 3]),
        lambda tiny: tiny.train["images"][0].pop("height"),
        lambda tiny: tiny.train["images"][0].pop("file_name"),
        lambda tiny: tiny.train["categories"][0].pop("name"),
    ],
)
def test_what_stops_mmdet_is_an_error(tiny, damage):
    damage(tiny)
    report = tiny.check()["train"]
    assert report.count("error") > 0
    settings = tiny.config().train_dataloader.dataset
    settings.pipeline = []
    with pytest.raises((KeyError, AssertionError, ValueError)):
        DATASETS.build(settings)


def test_images_in_no_known_place_are_the_configs_fault(tiny):
    tiny.write()
    config = tiny.config()
    config.train_dataloader.dataset.data_prefix = {"img_path": "train/"}
    with pytest.raises(UserError, match=r"data_prefix=dict\(img='folder/'\)"):
        check_datasets(find_datasets(config))


def test_classes_that_read_their_files_otherwise_are_asked_themselves(tiny):
    """CocoPanopticDataset is a CocoDataset, but its file has another format."""
    segments = [{"id": 5, "category_id": 1, "iscrowd": 0, "bbox": [8, 8, 20, 16], "area": 320}]
    for n, image in enumerate(tiny.train["images"]):
        image["file_name"] = f"t{n + 1}.jpg"  # mmdet has the map beside it: t1.png
    (tiny.root / "train/t2.png").rename(tiny.root / "train/t2.jpg")
    (tiny.root / "train/t3.jpg").unlink()
    tiny.train["annotations"] = [
        {"image_id": image["id"], "file_name": f"{image['id']}.png", "segments_info": segments}
        for image in tiny.train["images"]
    ]
    tiny.train["categories"] = [{"id": 1, "name": "cat", "isthing": 1}]
    tiny.write()
    dataset = {
        "type": "mmdet.CocoPanopticDataset",
        "data_root": str(tiny.root),
        "ann_file": "train.json",
        "data_prefix": {"img": "train/", "seg": "maps/"},
        "metainfo": {"classes": ("cat",), "thing_classes": ("cat",), "stuff_classes": ()},
    }
    (report,) = check_datasets(find_datasets(Config({"train_dataloader": {"dataset": dataset}})), workers=1)
    assert report.counts["images"] == 4
    found = {(finding.kind, finding.file.rpartition("/")[2]) for finding in report.findings}
    maps = {("segmap-missing", f"t{n}.png") for n in range(1, 5)}
    assert found == {("image-missing", "t3.jpg"), *maps}
