"""The configs of distillation: published settings, equal schedules with and without a teacher, losses."""

import copy
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import CONFIGS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ibkd_mm.apis import load_config
from ibkd_mm.config.overrides import apply_overrides, effective_settings
from ibkd_mm.config.walk import DROP, changed, to_builtin
from ibkd_mm.distill import FrozenTeacherDistill
from ibkd_mm.distill.hooks.teacher_check import _restricted
from ibkd_mm.errors import UserError
from ibkd_mm.yolov10.truth import collect_truth

FOLDER = CONFIGS / "ibkd"
PUBLISHED = {
    "coco": ((640, 640), 8, 1e-4, 50),
    "voc": ((512, 512), 16, 5e-5, 30),
    "cityscapes": ((1024, 512), 4, 1e-4, 40),
}
"""Width and height, batch size, learning rate, epochs."""

LONG = {"coco": 500, "voc": 300, "cityscapes": 300}
TINY, HARD = "ibkd_mask2former-tiny_yolov10n", "ibkd_mask2former-tiny_yolov10n_shapes-hard"
RTMDET, CWD = (
    "ibkd_mask2former-tiny_rtmdet-ins-tiny_shapes-hard",
    "cwd_deeplabv3plus-r50_mobilenetv2_cityscapes",
)
PARTS = ["instance", "cfb-instance", "context", "bai", "extra", "cached"]
ALONE = {
    **{
        f"ibkd_mask2former-{teacher}_yolov10n_{data}{end}": alone
        for teacher in ("r50", "swin-t")
        for data, epochs in LONG.items()
        for end, alone in (
            ("", f"ibkd/yolov10n_{data}"),
            (f"_{epochs}e", f"yolov10/yolov10n-seg_{data}"),
        )
    },
    **{f"{TINY}_{data}": f"yolov10/yolov10n-seg_{data}" for data in ("nuclei", "shapes", "shapes-hard")},
    **{
        f"ibkd_mask2former-r50_yolov10n_{data}_{LONG[data]}e_cached": f"yolov10/yolov10n-seg_{data}"
        for data in LONG
    },
    f"{TINY}_nuclei_cached": "yolov10/yolov10n-seg_nuclei",
    **{f"{HARD}_{part}": "yolov10/yolov10n-seg_shapes-hard" for part in PARTS},
    f"{HARD}_tenth": "yolov10/yolov10n-seg_shapes-hard_tenth",
    RTMDET: "rtmdet/rtmdet-ins_tiny_shapes",
    "ibkd_mask2former-r50_mask-rcnn-r50_coco": "mask_rcnn/mask_rcnn_r50_fpn_1x_coco",
    CWD: "mmseg::mobilenet_v2/mobilenet-v2-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024",
}
"""Each distillation config, and the config of its student alone."""


def test_every_distillation_config_has_one_of_its_student_alone() -> None:
    every = {path.stem for path in FOLDER.glob("*.py")}
    assert every - ALONE.keys() == {f"yolov10n_{data}" for data in PUBLISHED}
    assert ALONE.keys() <= every


@pytest.mark.parametrize("data", PUBLISHED)
def test_the_published_settings(load: Callable[..., Config], data: str) -> None:
    size, batch, rate, epochs = PUBLISHED[data]
    config = load(f"ibkd/yolov10n_{data}.py")
    assert config.train_dataloader.dataset.pipeline[0].size == size
    assert config.train_dataloader.batch_size == config.auto_scale_lr.base_batch_size == batch
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), config.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.Adam
    assert {(group["lr"], group["weight_decay"]) for group in wrapper.optimizer.param_groups} == {(rate, 0)}
    assert config.param_scheduler == []
    assert config.train_cfg.max_epochs == epochs
    for teacher in ("r50", "swin-t"):
        distilled = load(f"ibkd/ibkd_mask2former-{teacher}_yolov10n_{data}.py").model
        assert distilled.distiller.distill_losses.loss_instance.temperature == 3
        assert load_config(distilled.teacher).model.panoptic_head.feat_channels == 256


@pytest.mark.parametrize("data", LONG)
def test_the_long_recipe_is_the_students_own(load: Callable[..., Config], data: str) -> None:
    assert (
        load(f"ibkd/ibkd_mask2former-r50_yolov10n_{data}_{LONG[data]}e.py").train_cfg.max_epochs == LONG[data]
    )


ADDED_TRANSFORMS = ("ibkd_mm.LoadTeacherInstances", "ibkd_mm.SplitTeacherInstances", "ibkd_mm.MaskCells")


def without_added_transforms(node: Any) -> Any:
    """Remove the transforms that a teacher cache adds to pipelines."""

    def remove(value: Any, _: Any) -> Any:
        return DROP if isinstance(value, dict) and value.get("type") in ADDED_TRANSFORMS else value

    return changed(node, remove)


@pytest.mark.parametrize("name", ALONE)
def test_with_and_without_a_teacher_data_and_schedule_are_equal(name: str) -> None:
    alone = ALONE[name] if "::" in ALONE[name] else FOLDER.parent / ALONE[name]
    own, other = (
        to_builtin(effective_settings(load_config(path))) for path in (FOLDER / f"{name}.py", f"{alone}.py")
    )
    distilled, student = own.pop("model"), other.pop("model")
    hooks = own.pop("default_hooks"), other.pop("default_hooks", {})
    own.pop("teacher_cache", None)
    if name == f"{HARD}_tenth":
        own["train_dataloader"]["dataset"] = own["train_dataloader"]["dataset"]["datasets"][0]["dataset"]
    own, other = without_added_transforms(own), without_added_transforms(other)
    if name == RTMDET:
        assert distilled["architecture"]["data_preprocessor"].pop("pad_size_divisor") == 32
        (ours,), (theirs,) = own.pop("custom_hooks"), other.pop("custom_hooks")
        assert (ours["decay"], theirs["momentum"]) == (1 - 0.002, 0.002)
    if name == CWD:
        for key in ("custom_imports", "runner_type"):
            assert own.pop(key)
    assert own == other
    assert distilled["architecture"] == student
    assert hooks[1].items() <= hooks[0].items()


def test_unlabelled_images_are_the_other_nine_tenths_and_come_three_times_as_often() -> None:
    labelled, others = load_config(FOLDER / f"{HARD}_tenth.py").train_dataloader.dataset.datasets
    used = range(labelled.dataset.indices)
    assert sorted([*used, *others.indices]) == list(range(2000))
    assert len(others.indices) == 3 * labelled.times * len(used)
    steps = [step["type"].removeprefix("ibkd_mm.") for step in others.pipeline]
    assert steps[:3] == ["LoadImageFromFile", "NoAnnotations", "LoadTeacherInstances"]
    loading = labelled.dataset.pipeline[2]
    assert others.pipeline[2] == {**loading, "pseudo_label_thr": 0.5}
    assert steps[3:] == [step["type"].removeprefix("ibkd_mm.") for step in labelled.dataset.pipeline[3:]]


@pytest.mark.parametrize("teacher", ["r50", "swin-t"])
def test_a_full_size_pair_has_134144_parameters_beside_an_unchanged_student(
    load: Callable[..., Config], build: Callable[..., Any], teacher: str
) -> None:
    model = build(load(f"ibkd/ibkd_mask2former-{teacher}_yolov10n_coco.py"))
    beside = [one for name, one in model.named_parameters() if not name.startswith("architecture.")]
    assert sum(one.numel() for one in beside) == 134_144
    alone = build(load("ibkd/yolov10n_coco.py"))
    alone.load_state_dict(model.state_dict(), strict=True)
    image = torch.rand(1, 3, 96, 64)
    for one, other in zip(model.student.eval()(image), alone.eval()(image), strict=True):
        assert one is other is None or torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    assert sum(one.numel() for one in copy.deepcopy(model.student).fuse().parameters()) == 2_551_680


@pytest.mark.parametrize("data", ["voc", "cityscapes"])
def test_a_missing_teacher_checkpoint_is_named_with_its_key(
    load: Callable[..., Config],
    teachers_weights: Callable[..., None],
    monkeypatch: Any,
    data: str,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ibkd_mm.distill.teacher._load", teachers_weights)
    model = load(f"ibkd/ibkd_mask2former-r50_yolov10n_{data}.py").model
    with pytest.raises(
        UserError, match=f"teacher_ckpt.*no checkpoint work_dirs/mask2former_r50_{data}/iter_"
    ):
        MODELS.build(model)


Step = tuple[FrozenTeacherDistill, dict[str, Any]]


@pytest.fixture(scope="module")
def step(load: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Step]:
    """Run one training step on two images of Shapes, from the files to gradients."""
    root = tmp_path_factory.mktemp("shapes")

    def step(name: str, options: Sequence[str] = (), limit: int | None = None) -> Step:
        """`limit` is the maximum number of annotated instances in an image."""
        config = load(f"ibkd/{name}.py")
        apply_overrides(config, options)
        dataset = config.train_dataloader.dataset
        dataset.data_root = str(root)
        dataset.spec.update(train=2, val=1)
        torch.manual_seed(0)
        model = MODELS.build(config.model).train()
        batch = pseudo_collate(list(DATASETS.build(dataset)))
        for sample in batch["data_samples"] if limit else ():
            sample.gt_instances = sample.gt_instances[:limit]
        losses = model(**model.data_preprocessor(batch, True), mode="loss")
        model.parse_losses(losses)[0].backward()
        return model, {key: value for key, value in losses.items() if key.startswith("distill.")}

    return step


def loss_names(losses: dict[str, Any]) -> set[str]:
    return {name.removeprefix("distill.") for name in losses if "loss" in name}


def without_gradient(model: torch.nn.Module) -> set[str]:
    """Return the names of trained parameters that have no gradient."""
    return {name for name, one in model.named_parameters() if one.requires_grad and one.grad is None}


FEATURES, INSTANCES = {"loss_cfb"}, {"instance.loss_cls", "instance.loss_mask"}
AUXILIARY = {f"auxiliary.loss_{name}" for name in ("cls", "bbox", "dfl", "mask")}


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("", FEATURES),
        ("_instance", INSTANCES),
        ("_cfb-instance", FEATURES | INSTANCES),
        ("_context", FEATURES | INSTANCES),
        ("_extra", FEATURES),
        ("_bai", FEATURES | AUXILIARY | {"loss_attention"}),
    ],
)
def test_each_ablation_has_its_losses_and_gradients_for_all_trained_parameters(
    step: Callable[..., Step], end: str, expected: set[str]
) -> None:
    model, losses = step(HARD + end)
    assert loss_names(losses) == expected
    assert all(float(losses[f"distill.{name}"].detach()) > 0 for name in expected)
    assert without_gradient(model) == set()
    if "instance.loss_cls" in expected:
        assert losses["distill.instance.matched"] > 0.5
        varied = losses["distill.instance.min_image_weight"] < 1 < losses["distill.instance.max_image_weight"]
        assert varied == (end == "_context")


def test_instances_alone_build_no_bridge(step: Callable[..., Step]) -> None:
    assert list(step(f"{HARD}_instance")[0].distiller.connectors) == ["instances"]


def test_extra_targets_replace_missing_annotations(step: Callable[..., Step], monkeypatch: Any) -> None:
    counts = []

    def collect(*args: Any) -> Any:
        truth = collect_truth(*args)
        counts.append(len(truth.boxes))
        return truth

    monkeypatch.setattr("ibkd_mm.yolov10.head.collect_truth", collect)
    step(f"{HARD}_extra", limit=1)
    assert counts[0] > 4  # two are annotated


def test_one_share_for_all_places_needs_no_gates(load: Callable[..., Config]) -> None:
    config = load(f"ibkd/{HARD}_bai.py")
    gated = MODELS.build(config.model).distiller.distill_losses["loss_cfb"].focus
    assert [gate.in_channels for gate in gated.gates] == [2 * 128] * 3
    apply_overrides(config, ["model.distiller.distill_losses.loss_cfb.alpha=0.5"])
    fixed = MODELS.build(config.model).distiller.distill_losses["loss_cfb"].focus
    assert not list(fixed.parameters())


def swaps() -> dict[str, list[str]]:
    """Return the feature losses in the table of the README, with their options."""
    rows = re.findall(r"^\| (\w+) \|.*\| `(model\..*)` \|$", (FOLDER / "README.md").read_text(), re.M)
    return {name: options.split() for name, options in rows}


def test_the_readme_has_feature_losses() -> None:
    assert swaps().keys() == {"PKD", "CWD", "MGD", "L2"}


KINDS = {"PKD": "PKDLoss", "CWD": "ChannelWiseDivergence", "MGD": "MGDLoss", "L2": "L2Loss"}


@pytest.mark.parametrize("name", KINDS)
def test_the_options_of_the_readme_select_another_feature_loss(step: Callable[..., Step], name: str) -> None:
    model, losses = step(HARD, swaps()[name])
    assert type(model.distiller.distill_losses["loss_cfb"].loss).__name__ == KINDS[name]
    assert float(losses["distill.loss_cfb"].detach()) > 0
    assert without_gradient(model) == set()
    refined = [type(level[-1]).__name__ for level in model.distiller.distill_losses["loss_cfb"].bridge.levels]
    assert refined == [{"MGD": "MGDConnector"}.get(name, "GroupNorm")] * 4


def test_feature_maps_of_another_student(step: Callable[..., Step]) -> None:
    model, losses = step(RTMDET)
    assert loss_names(losses) == FEATURES
    assert without_gradient(model) == set()


def test_logits_of_semantic_segmentation(load: Callable[..., Config]) -> None:
    config = load(f"ibkd/{CWD}.py")
    config.model.architecture.data_preprocessor.size = (64, 64)
    model = revert_sync_batchnorm(MODELS.build(config.model)).train()
    assert model.teacher.decode_head.conv_seg.in_channels == 512
    batch = {
        "inputs": [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)],
        "data_samples": [
            SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 19, (1, 64, 64)))) for _ in range(2)
        ],
    }
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    assert float(losses["distill.loss_cwd"].detach()) > 0
    model.parse_losses(losses)[0].backward()
    assert without_gradient(model) == set()


def test_the_teacher_of_nuclei_is_evaluated_on_a_part_of_the_images(
    load: Callable[..., Config], tmp_path: Path
) -> None:
    """By a metric of another package, whose annotations must be reduced to the same images."""
    names = [f"{number}.png" for number in range(4)]
    boxes = [(2, 5, 12, 25), (22, 5, 32, 25), (42, 5, 52, 25)]
    masks = np.zeros((3, 64, 64), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    annotations = []
    for image, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.zeros((64, 64, 3), np.uint8))
        for x1, y1, x2, y2 in boxes:
            own = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 200}
            outline = [x1, y1, x2, y1, x2, y2, x1, y2]
            annotations.append({**own, "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": [outline]})
    images = [{"id": i, "file_name": name, "height": 64, "width": 64} for i, name in enumerate(names)]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}
    (tmp_path / "all.json").write_text(json.dumps(coco))

    config = load(f"ibkd/{TINY}_nuclei.py")
    files = {"data_root": str(tmp_path), "ann_file": "all.json", "data_prefix": {"img": ""}}
    dataset = DATASETS.build({**config.val_dataloader.dataset, **files, "indices": 2})
    metric = ConfigDict(config.val_evaluator, ann_file=str(tmp_path / "all.json"))
    evaluator = Evaluator([_restricted(metric, dataset, tmp_path)])
    evaluator.dataset_meta = dataset.metainfo
    seen = {
        "bboxes": torch.tensor(boxes).float(),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.zeros(3).long(),
        "masks": torch.from_numpy(masks),
    }
    for image in range(2):
        evaluator.process([{"img_id": image, "ori_shape": (64, 64), "pred_instances": seen}])
    assert evaluator.evaluate(2)[config.default_hooks.teacher_check.get("metric", "coco/segm_mAP")] == 1.0


def test_the_readmes_config_for_own_data_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (FOLDER / "README.md").read_text(), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    Path("my_distillation.py").write_text(block)
    box = {"bbox": [8, 8, 32, 32], "segmentation": [[8, 8, 40, 8, 40, 40, 8, 40]], "area": 1024, "iscrowd": 0}
    coco = {
        "images": [{"id": i, "file_name": "1.png", "width": 64, "height": 64} for i in (1, 2)],
        "annotations": [{"id": i, "image_id": i, "category_id": i, **box} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    for split in ("train", "val"):
        Path(f"data/mine/{split}").mkdir(parents=True)
        cv2.imwrite(f"data/mine/{split}/1.png", np.zeros((64, 64, 3), np.uint8))
        Path(f"data/mine/{split}.json").write_text(json.dumps(coco))
    config = load_config("my_distillation.py")
    with DefaultScope.overwrite_default_scope("mmdet"):
        instances = DATASETS.build(config.train_dataloader.dataset)[0]["data_samples"].gt_instances
        assert len(DATASETS.build(config.val_dataloader.dataset)) == 2
        student = MODELS.build(config.model.architecture)
    assert set(instances.labels.tolist()) <= {0, 1}
    assert student.bbox_head.num_classes == 2
    assert config.val_evaluator.ann_file == config.test_evaluator.ann_file == "data/mine/val.json"
    assert (config.model.teacher, config.model.teacher_ckpt) == ("my_teacher.py", "my_teacher.pth")
