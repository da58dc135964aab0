import pytest
import torch
from mmengine.config import Config

from ibkd_mm.data_check import find_datasets
from ibkd_mm.errors import UserError
from ibkd_mm.registry import DATASETS


@DATASETS.register_module()
class PlainTorchDataset(torch.utils.data.Dataset):
    def __init__(self, root: str) -> None:
        self.root = root


def _coco(tiny, **settings):
    return {**tiny.config().train_dataloader.dataset, **settings}


def _names(**loaders):
    config = Config({f"{name}_dataloader": {"dataset": inner} for name, inner in loaders.items()})
    return [checked.name for checked in find_datasets(config)]


@pytest.mark.parametrize("wrapper", ["RepeatDataset", "ClassBalancedDataset", "mmdet.MultiImageMixDataset"])
def test_wrappers_are_looked_into(tiny, wrapper):
    wrapped = {"type": wrapper, "dataset": _coco(tiny), "times": 3}
    (checked,) = find_datasets(Config({"train_dataloader": {"dataset": wrapped}}))
    assert (checked.name, checked.dataset.ann_file) == ("train", str(tiny.root / "train.json"))
    assert checked.loads_masks


def test_each_of_several_is_checked(tiny):
    several = [
        _coco(tiny),
        {"type": "RepeatDataset", "times": 2, "dataset": _coco(tiny, ann_file="val.json")},
    ]
    wrapped = {"type": "RepeatDataset", "times": 2, "dataset": {"type": "ConcatDataset", "datasets": several}}
    assert _names(train=wrapped) == ["train[0]", "train[1]"]


def test_the_same_data_are_checked_once(tiny):
    val = _coco(tiny, ann_file="val.json", test_mode=True)
    assert _names(train=_coco(tiny), val=val, test=dict(val)) == ["train", "val, test"]
    assert _names(val=val, test={**val, "data_prefix": {"img": "other/"}}) == ["val", "test"]
    assert _names(val=val, test={**val, "metainfo": {"classes": ("dog",)}}) == ["val", "test"]
    assert _names(val=val, test={**val, "pipeline": []}) == ["val", "test"]  # it loads no masks


def test_training_data_are_never_taken_for_test_data(tiny):
    """Otherwise the overlap would go unnoticed."""
    assert _names(train=_coco(tiny), val=_coco(tiny)) == ["train", "val"]


def test_annotations_are_not_read_to_find_the_datasets(tiny):
    """The files do not exist."""
    assert _names(train=_coco(tiny)) == ["train"]


def test_a_config_without_data_is_refused():
    with pytest.raises(UserError, match="names no data"):
        find_datasets(Config({"train_dataloader": None}))


def test_a_dataset_of_another_kind_is_refused():
    with pytest.raises(UserError, match=r"dataset of train: .*\.BaseDataset, found PlainTorchDataset"):
        _names(train={"type": "ibkd_mm.PlainTorchDataset", "root": "x"})
