"""The student's configs: the outputs of their pipelines, and their training settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import CONFIGS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, PARAM_SCHEDULERS
from pycocotools import mask as rle

from ibkd_mm.config.walk import innermost_dataset

NAMES = sorted(path.stem for path in (CONFIGS / "yolov10").glob("*.py"))
SIZES = {
    "coco": (640, 640),
    "coco_copy-paste": (640, 640),
    "voc": (512, 512),
    "cityscapes": (1024, 512),
    "nuclei": (512, 512),
}
"""Width, height."""


def path(data: str) -> str:
    return f"yolov10/yolov10n-seg_{data}.py"


def training_classes(config: Config) -> tuple[str, ...]:
    dataset = innermost_dataset(config.train_dataloader.dataset)
    with DATASETS.switch_scope_and_registry(None) as registry:
        return (dataset.get("metainfo") or registry.get(dataset["type"]).METAINFO)["classes"]


def rectangle(number: int, image: int, category: int, box: tuple[int, ...], size: tuple[int, int]) -> dict:
    """Make an annotation: every second mask is a polygon, the others are RLE."""
    x1, y1, x2, y2 = box
    pixels = np.zeros(size, np.uint8, order="F")
    pixels[y1:y2, x1:x2] = 1
    counts = rle.encode(pixels)
    outlines = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "segmentation": outlines if number % 2 else {**counts, "counts": counts["counts"].decode()},
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """Write images of several sizes with white rectangles as instances; the last image is empty."""
    root = tmp_path_factory.mktemp("images")

    def write(classes: tuple[str, ...]) -> Path:
        images, annotations = [], []
        for index, (height, width) in enumerate([(300, 400), (200, 200), (512, 1024), (90, 60), (80, 120)]):
            boxes = [(10, 20, width // 2, height // 2), (width // 2, height // 2, width - 5, height - 9)]
            image = np.zeros((height, width, 3), np.uint8)
            for position, box in enumerate(boxes if index < 4 else []):
                number = len(annotations) + 1
                category = (2 * index + position) % len(classes)
                annotations.append(rectangle(number, index, category + 1, box, (height, width)))
                image[box[1] : box[3], box[0] : box[2]] = 255
            cv2.imwrite(str(root / f"{index}.png"), image)
            images.append({"id": index, "file_name": f"{index}.png", "height": height, "width": width})
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]
        coco = {"images": images, "annotations": annotations, "categories": categories}
        (root / "all.json").write_text(json.dumps(coco))
        return root

    return write


def build_dataset(config: Config, split: str, root: Path) -> Any:
    dataset = config[f"{split}_dataloader"].dataset
    innermost_dataset(dataset).update(data_root=str(root), ann_file="all.json", data_prefix={"img": ""})
    return DATASETS.build(dataset)


@pytest.mark.parametrize("name", SIZES)
def test_boxes_masks_and_pixels_agree_after_the_training_pipeline(
    load: Callable, data: Callable, name: str
) -> None:
    config = load(path(name))
    dataset = build_dataset(config, "train", data(training_classes(config)))
    width, height = SIZES[name]
    counts, overlaps = [], 0
    for seed in range(8):
        np.random.seed(seed)
        packed = dataset[seed % len(dataset)]
        instances = packed["data_samples"].gt_instances
        assert packed["inputs"].shape == (3, height, width)
        assert packed["inputs"].dtype == torch.uint8
        assert instances.mask_cells.shape == (len(instances), height // 4, width // 4)
        assert "masks" not in instances
        overlaps += int((instances.mask_cells.sum(0) > 16).sum())
        white = (packed["inputs"][0] > 70).unflatten(0, (-1, 4)).unflatten(2, (-1, 4)).sum((1, 3))
        found = instances.mask_cells.sum(0) > 8
        assert (found & (white < 6)).sum() <= 4  # every mask is on a rectangle
        for box, cells in zip(instances.bboxes.tensor, instances.mask_cells, strict=True):
            rows, columns = cells.nonzero().unbind(1)
            edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 4
            assert (edges - box).abs().max() <= 5
            if "paste" not in name:  # a cropped rectangle is a rectangle
                area = float((box[2:] - box[:2]).prod())
                assert int(cells.sum()) == pytest.approx(
                    area, rel=0.02, abs=2 * float((box[2:] - box[:2]).sum())
                )
        counts.append(len(instances))
    assert max(counts) >= 4
    assert overlaps == 0  # pasted instances cover the others


@pytest.mark.parametrize("name", SIZES)
def test_samples_have_one_image_after_mosaics_are_off(load: Callable, data: Callable, name: str) -> None:
    config = load(path(name))
    dataset = build_dataset(config, "train", data(training_classes(config)))
    inner = dataset
    while hasattr(inner, "dataset"):
        inner.pipeline[0].close()
        inner = inner.dataset
    index = next(i for i in range(len(dataset)) if inner.get_data_info(i)["img_id"] == 0)
    for _ in range(8):
        labels = dataset[index]["data_samples"].gt_instances.labels.tolist()
        assert set(labels) <= {0, 1 % len(training_classes(config))}
        assert len(labels) <= 2


@pytest.mark.parametrize(("name", "images"), [("coco", 5), ("nuclei", 5), ("voc", 4), ("cityscapes", 4)])
def test_empty_images_are_kept_for_coco_and_nuclei(
    load: Callable, data: Callable, name: str, images: int
) -> None:
    config = load(path(name))
    assert len(build_dataset(config, "train", data(training_classes(config)))) == images


@pytest.mark.parametrize("name", SIZES)
def test_whole_images_are_tested_at_the_training_size(load: Callable, data: Callable, name: str) -> None:
    config = load(path(name))
    dataset = build_dataset(config, "val", data(training_classes(config)))
    for index, (height, width) in enumerate([(300, 400), (200, 200), (512, 1024)]):
        sample = dataset[index]["data_samples"]
        factor = min(SIZES[name][0] / width, SIZES[name][1] / height)
        assert sample.img_shape == (round(height * factor), round(width * factor))
        assert sample.ori_shape == (height, width)
        assert sample.img_id == index


@pytest.mark.parametrize("name", NAMES)
def test_mosaics_are_turned_off_at_the_end_and_mask_cells_have_the_heads_stride(
    load: Callable, name: str
) -> None:
    config = load(f"yolov10/{name}.py")
    hooks = {hook.type: hook for hook in config.custom_hooks}
    text = config.train_dataloader.dataset.to_dict()
    assert ("ibkd_mm.CloseMosaicHook" in hooks) == ("MosaicAffine" in str(text))
    assert "ibkd_mm.StudentEMAHook" in hooks
    if "MosaicAffine" in str(text):
        assert text["pipeline"][-1]["transforms"][-1] == {
            "type": "ibkd_mm.MaskCells",
            "stride": config.model.bbox_head.strides[0] // 2,
        }


def test_the_published_augmentation(load: Callable) -> None:
    config = load(path("coco"))
    mosaic, finish = config.train_dataloader.dataset.pipeline
    published = {"prob": 1.0, "scale": 0.5, "translate": 0.1, "degrees": 0.0, "shear": 0.0}
    assert {name: mosaic[name] for name in published} == published
    colours, flip = finish.transforms[:2]
    assert (colours.hue, colours.saturation, colours.value) == (0.015, 0.7, 0.4)
    assert flip == {"type": "RandomFlip", "prob": 0.5}
    assert {"type": "ibkd_mm.CloseMosaicHook", "last": 10} in config.custom_hooks


def test_smaller_datasets_have_the_published_rates_for_64_images(load: Callable) -> None:
    """The published loss is multiplied by the images of a step: its gradients are 64 times ours."""
    config = load(path("voc"))
    wrapper = config.optim_wrapper
    assert config.train_dataloader.batch_size == config.auto_scale_lr.base_batch_size == 64
    assert wrapper.optimizer.lr == pytest.approx(0.01 * 64)
    assert wrapper.optimizer.weight_decay * 64 == pytest.approx(5e-4)
    assert wrapper.clip_grad.max_norm * 64 == pytest.approx(10)
    coco = load(path("coco")).optim_wrapper
    assert coco.optimizer.lr == pytest.approx(2.56)
    assert coco.optimizer.weight_decay * 256 == pytest.approx(5e-4 * 4)
    assert coco.clip_grad.max_norm * 256 == pytest.approx(10)


class Affine(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.3, -0.2]]))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs @ self.weight.T + self.bias - 1).square().mean()


@pytest.mark.parametrize("name", ["coco", "voc"])
def test_accumulated_gradients_step_like_the_whole_batch(load: Callable, name: str) -> None:
    """Eight batches of an eighth equal one batch, with momentum, decay and clipping."""
    inputs = torch.randn(3, 64, 2)
    weights = {}
    for parts in (1, 8):
        model = Affine()
        config = {**load(path(name)).optim_wrapper, "accumulative_counts": parts}
        wrapper = build_optim_wrapper(model, config)
        wrapper.initialize_count_status(model, 0, 3 * parts)
        for batch in inputs:
            for part in batch.chunk(parts):
                with wrapper.optim_context(model):
                    loss = model(part)
                wrapper.update_params(loss)
        weights[parts] = torch.cat([one.detach().flatten() for one in model.parameters()])
    assert torch.allclose(weights[1], weights[8], atol=1e-6)
    assert not torch.allclose(weights[1], torch.tensor([0.3, -0.2, 0.0]), atol=1e-2)


def test_the_learning_rate_depends_on_epochs_and_not_on_the_batch_size(load: Callable) -> None:
    def rates(batches: int) -> list[float]:
        config = load(path("voc"))
        wrapper = build_optim_wrapper(Affine(), config.optim_wrapper)
        built_with = {"optimizer": wrapper, "epoch_length": batches}
        schedulers = [PARAM_SCHEDULERS.build(one, default_args=built_with) for one in config.param_scheduler]
        found = []
        for iteration in range(300 * batches):
            ends_epoch = (iteration + 1) % batches == 0
            if ends_epoch:
                found.append(wrapper.get_lr()["lr"][0])
            for scheduler in schedulers:
                if not scheduler.by_epoch or ends_epoch:
                    scheduler.step()
        return found

    few, many = rates(20), rates(160)
    assert few[2] == pytest.approx(0.64, rel=0.02)  # the warm-up is over
    assert few[3:] == pytest.approx(many[3:], rel=1e-6)
    assert few[:3] == pytest.approx(many[:3], rel=0.06)  # the warm-up has more steps
    assert few[-1] == pytest.approx(0.64 * 0.01, rel=0.4)


def test_a_step_in_mixed_precision_is_nearly_the_same(load: Callable, sample: Any) -> None:
    config = load(path("nuclei"))
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    batch = {
        "inputs": [torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8) for _ in range(2)],
        "data_samples": sample,
    }
    exact = model(**model.data_preprocessor(batch, True), mode="loss")
    gpu = torch.cuda.is_available()
    config.optim_wrapper.type = "AmpOptimWrapper" if gpu else "ibkd_mm.CpuAmpOptimWrapper"
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    dtypes: set[torch.dtype] = set()
    model.neck.register_forward_hook(lambda *args: dtypes.update(output.dtype for output in args[2]))
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    losses = model.train_step(batch, wrapper)
    assert dtypes == {torch.float16 if gpu else torch.bfloat16}
    for name, value in exact.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=0.1), name
    unchanged = {name for name, one in model.named_parameters() if torch.equal(one, before[name])}
    assert {name.split(".")[0] for name in unchanged} <= {"bbox_head"}  # a level without instances
    assert all(one.isfinite().all() for one in model.parameters())


@pytest.fixture
def sample() -> Any:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    boxes = torch.tensor([[10.0, 10, 60, 50], [70, 60, 120, 120]])
    masks = np.zeros((2, 128, 128), np.uint8)
    masks[0, 10:50, 10:60] = masks[1, 60:120, 70:120] = 1
    instances = InstanceData(bboxes=boxes, labels=torch.zeros(2).long(), masks=BitmapMasks(masks, 128, 128))
    meta = {"img_shape": (128, 128)}
    return [DetDataSample(gt_instances=instances, metainfo=meta) for _ in range(2)]


def test_predictions_beyond_the_hundredth_count_for_nuclei(load: Callable, tmp_path: Path) -> None:
    """All 200 instances are found; CocoMetric counts half of them."""
    size = (40, 800)
    boxes = [(4 * index, 10, 4 * index + 3, 20) for index in range(200)]
    annotations = [rectangle(index + 1, 0, 1, box, size) for index, box in enumerate(boxes)]
    coco = {
        "images": [{"id": 0, "file_name": "0.png", "height": size[0], "width": size[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "nucleus"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(coco))
    masks = np.zeros((200, *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    found = {
        "img_id": 0,
        "ori_shape": size,
        "pred_instances": {
            "bboxes": torch.tensor(boxes).float(),
            "scores": torch.linspace(0.9, 0.1, 200),
            "labels": torch.zeros(200).long(),
            "masks": torch.from_numpy(masks),
        },
    }
    values = {}
    for kind in ("FasterCocoMetric", "CocoMetric"):
        evaluator = load(path("nuclei")).val_evaluator
        metric = METRICS.build({**evaluator, "type": kind, "ann_file": str(tmp_path / "a.json")})
        metric.dataset_meta = {"classes": ("nucleus",)}
        metric.process({}, [found])
        values[kind] = metric.evaluate(1)["coco/segm_mAP"]
    assert values == {"FasterCocoMetric": 1.0, "CocoMetric": pytest.approx(0.5, abs=0.01)}
    assert load(path("nuclei")).val_evaluator.type == "FasterCocoMetric"
    assert load(path("nuclei")).model.test_cfg.max_per_img == 300
