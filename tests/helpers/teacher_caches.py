"""What the tests of the cache share: entries, annotated pictures, and a cache of what is annotated."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope
from numpy.typing import NDArray

import ibkd_mm  # noqa: F401
from ibkd_mm.datasets.shapes.build import ShapesSpec, ensure_shapes
from ibkd_mm.datasets.shapes.outlines import CLASSES
from ibkd_mm.datasets.transforms.annotated_image import AnnotatedImage
from ibkd_mm.distill.teacher import FrozenTeacher
from ibkd_mm.methods.ibkd.teacher_predictions import InstancePredictor, TeacherPrediction
from ibkd_mm.offline import CachedInstances, CacheWriter, InstanceCodec
from ibkd_mm.offline.build_cache import predict
from ibkd_mm.offline.images import FolderImages
from ibkd_mm.registry import MODELS

IDENTITY = {
    "teacher": "T 1",
    "weights": "2",
    "images": "3",
    "settings": {"topk_classes": 5},
    "codec": "ibkd_mm.InstanceCodec",
    "version": 1,
}
PICTURES = 200
INSTANCES = {"type": "ibkd_mm.QueryInstances", "score_thr": 0.0}
LOAD = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}]


def pack(entry: CachedInstances) -> bytes:
    return InstanceCodec({}).encode(entry)


def unpack(data: bytes, thresholds: Sequence[float] = (0.5,)) -> CachedInstances:
    return InstanceCodec({"mask_thresholds": tuple(thresholds)}).decode(data)


def entries_of(run: InstancePredictor, batch: Any) -> list[tuple[str, CachedInstances]]:
    return [(prediction.key, prediction.entry()) for prediction in predict(run, batch)]


def entry_of(
    instances: Any,
    size: tuple[int, int],
    meta: dict[str, Any],
    *,
    thresholds: tuple[float, ...] = (0.5,),
    min_component_ratio: float = 0.0,
) -> CachedInstances:
    """Make the entry of one image from instances, as a predictor with these settings would."""
    settings: Any = SimpleNamespace(
        topk_classes=5, mask_thresholds=thresholds, min_component_ratio=min_component_ratio
    )
    return TeacherPrediction(instances, size, meta, settings).entry()


@pytest.fixture(scope="session")
def identity() -> dict[str, Any]:
    return dict(IDENTITY)


@pytest.fixture(scope="session")
def entry() -> Callable[..., CachedInstances]:
    """Draw what a teacher might see: ellipses, with any probabilities, of which five are kept."""

    def draw(
        seed: int = 0, count: int = 4, size: tuple[int, int] = (160, 160), classes: int = 8
    ) -> CachedInstances:
        rng = np.random.default_rng(seed)
        masks = np.zeros((count, *size), np.uint8)
        for mask in masks:
            centre, axes = rng.integers(0, min(size), 2), rng.integers(2, min(size) // 5, 2)
            cv2.ellipse(mask, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
        boxes = rng.uniform(0, min(size), (count, 4)).astype(np.float32)
        odds = rng.dirichlet([0.3] * classes, count).astype(np.float32).reshape(count, classes)
        return CachedInstances.of(boxes, rng.uniform(0, 1, count).astype(np.float32), odds, masks, 5)

    return draw


@pytest.fixture(scope="session")
def same() -> Callable[[CachedInstances, CachedInstances], bool]:
    """Tell whether an entry that was read is the one that was written."""

    def compare(found: CachedInstances, expected: CachedInstances) -> bool:
        step = 0.5 / 65535 + 1e-7
        return (
            (found.height, found.width, found.classes) == (expected.height, expected.width, expected.classes)
            and np.array_equal(found.boxes, expected.boxes)
            and np.array_equal(found.masks, expected.masks)
            and np.array_equal(found.top_classes, expected.top_classes)
            and np.allclose(found.scores, expected.scores, rtol=0, atol=step)
            and np.allclose(found.top_probabilities, expected.top_probabilities, rtol=0, atol=step)
        )

    return compare


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotate 200 pictures of shapes that cover each other; every eleventh instance is called a crowd."""
    root = tmp_path_factory.mktemp("shapes")
    ensure_shapes(root, ShapesSpec("hard", PICTURES, 1, 64), workers=1)
    file = root / "annotations" / "train.json"
    coco = json.loads(file.read_text())
    for annotation in coco["annotations"][::11]:
        annotation["iscrowd"] = 1
    file.write_text(json.dumps(coco))
    return root


@pytest.fixture(scope="session")
def dataset(shapes: Path) -> Callable[..., Any]:
    """Build the pictures behind a pipeline, and behind one of several pictures where that is given."""

    def build(pipeline: Iterable[Any], *mixing: Iterable[Any]) -> Any:
        described: dict[str, Any] = {
            "type": "CocoDataset",
            "data_root": str(shapes),
            "ann_file": "annotations/train.json",
            "data_prefix": {"img": "train/"},
            "metainfo": {"classes": CLASSES},
            "test_mode": True,  # all of them
            "pipeline": list(pipeline),
        }
        for each in mixing:
            described = {"type": "MultiImageMixDataset", "dataset": described, "pipeline": list(each)}
        with DefaultScope.overwrite_default_scope("mmdet"):
            built = inner = DATASETS.build(described)
        while hasattr(inner, "dataset"):
            inner = inner.dataset
        if mixing:  # which copies what it is given
            inner.prepare_data = functools.cache(inner.prepare_data)
        return built

    return build


def of_truth(sample: dict[str, Any]) -> CachedInstances:
    """Let a teacher see what is annotated, no crowd; each with a score and a probability of its own."""
    picture = AnnotatedImage.from_results(sample)
    real = ~picture.ignored
    labels = picture.labels[real]
    odds: NDArray[np.float32] = np.full((len(labels), len(CLASSES)), 0.01, np.float32)
    odds[np.arange(len(labels)), labels] = 0.5 + np.arange(len(labels)) / 100
    scores = (0.5 + (sample["img_id"] % 89) / 200 + np.arange(len(labels)) / 2000).astype(np.float32)
    assert picture.masks is not None
    return CachedInstances.of(picture.boxes[real], scores, odds, picture.masks[real], 5)


@pytest.fixture(scope="session")
def truth_cache(dataset: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a cache with the ground truth of all pictures."""
    path = tmp_path_factory.mktemp("cache") / "truth.sqlite"
    loaded, entries = dataset(LOAD), []
    with CacheWriter(path, IDENTITY) as writer:
        for index in range(PICTURES):
            sample = loaded[index]
            entries.append((str(sample["img_id"]), of_truth(sample)))
        writer.write(entries)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "cache.sqlite"


@pytest.fixture
def filled(path: Path, identity: dict[str, Any], entry: Callable[..., CachedInstances]) -> Path:
    """Write 40 pictures, called 0 to 39."""
    with CacheWriter(path, identity) as writer:
        writer.write((str(number), entry(number)) for number in range(40))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> FolderImages:
    """Lay pictures of three sizes into a folder and one inside it, with a pipeline that resizes them."""
    root = tmp_path_factory.mktemp("folder")
    (root / "b").mkdir()
    rng = np.random.default_rng(0)
    sizes = {"a.png": (48, 80), "b/c.JPG": (90, 60), "b/d.bmp": (64, 64), "e.png": (64, 64)}
    for name, size in sizes.items():
        cv2.imwrite(str(root / name), cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), size[::-1]))
    (root / "notes.txt").write_text("no picture")
    meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    resize = {"type": "Resize", "scale": (72, 72), "keep_ratio": True}
    with DefaultScope.overwrite_default_scope("mmdet"):
        return FolderImages(root, [LOAD[0], resize, {"type": "PackDetInputs", "meta_keys": meta}])


@pytest.fixture(scope="session")
def run(
    built: Callable[..., Any], teacher_config: Callable[..., Any], student_config: Callable[..., Any]
) -> InstancePredictor:
    """A tiny Mask2Former of random weights that sees all sorts of things."""
    teacher = built(teacher_config(), seed=1).eval()
    preprocessor = MODELS.build(student_config()["data_preprocessor"])
    frozen = FrozenTeacher(teacher.requires_grad_(False), preprocessor)
    return InstancePredictor(frozen, preprocessor, INSTANCES, topk_classes=5)
