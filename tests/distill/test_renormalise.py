"""Teacher and student with other means, deviations and orders of channels: what each of them sees."""

from typing import Any

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ibkd_mm.distill.teacher import Renormaliser
from ibkd_mm.errors import UserError

SIZES = [(20, 33), (32, 17), (64, 64), (1, 40)]
YOLO = {"mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0]}
CAFFE = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 2.0, 3.0]}
IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
ONE_FOR_ALL = {"mean": [110.0], "std": [60.0]}


@pytest.fixture
def pictures() -> list[Tensor]:
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in SIZES]


def run(preprocessor: nn.Module, pictures: list[Tensor], sample: type = DetDataSample) -> tuple[Any, Any]:
    """Preprocess as in training: the batch and its samples."""
    samples = [sample(metainfo={"img_shape": tuple(each.shape[1:])}) for each in pictures]
    data = {"inputs": [each.clone() for each in pictures], "data_samples": samples}
    out = preprocessor(data, training=True)
    return out["inputs"], out["data_samples"]


def detector(normalise: dict[str, Any], *, rgb: bool, pad: float, divisor: int = 32) -> DetDataPreprocessor:
    return DetDataPreprocessor(**normalise, bgr_to_rgb=rgb, pad_value=pad, pad_size_divisor=divisor)


@pytest.mark.parametrize("normalise", [YOLO, CAFFE, ONE_FOR_ALL, {}], ids=["yolo", "caffe", "one", "none"])
@pytest.mark.parametrize("student_rgb", [True, False])
@pytest.mark.parametrize("teacher_rgb", [True, False])
def test_teacher_sees_its_own_normalisation_tensor_by_tensor(
    pictures: list[Tensor], normalise: dict[str, Any], student_rgb: bool, teacher_rgb: bool
) -> None:
    student = detector(normalise, rgb=student_rgb, pad=3.0)
    teacher = detector(IMAGENET, rgb=teacher_rgb, pad=7.5)
    inputs, samples = run(student, pictures)
    expected, _ = run(teacher, pictures)
    before = inputs.clone()
    found = Renormaliser(student, teacher)(inputs, samples)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (found[3, :, 1:] == 7.5).all()
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("student_rgb", [True, False])
def test_a_teacher_that_does_not_normalise_sees_raw_pictures(
    pictures: list[Tensor], student_rgb: bool
) -> None:
    student, teacher = detector(IMAGENET, rgb=student_rgb, pad=0.0), detector({}, rgb=False, pad=114.0)
    inputs, samples = run(student, pictures)
    found = Renormaliser(student, teacher)(inputs, samples)
    torch.testing.assert_close(found, run(teacher, pictures)[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[0, :, :20, :33], pictures[0].float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rgb", [True, False])
def test_a_semantic_segmenter_sees_its_own_normalisation_too(pictures: list[Tensor], rgb: bool) -> None:
    student = detector(YOLO, rgb=True, pad=114.0)
    teacher = SegDataPreProcessor(**IMAGENET, bgr_to_rgb=rgb, pad_val=5.0, size_divisor=32)
    inputs, samples = run(student, pictures)
    expected, _ = run(teacher, pictures, SegDataSample)
    found = Renormaliser(student, teacher)(inputs, samples)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_an_image_shape_with_channels_is_read_by_its_sides(pictures: list[Tensor]) -> None:
    student, teacher = detector(YOLO, rgb=True, pad=0.0), detector(IMAGENET, rgb=True, pad=1.0)
    inputs, samples = run(student, pictures)
    for sample in samples:
        sample.set_metainfo({"img_shape": (*sample.img_shape, 3)})
    found = Renormaliser(student, teacher)(inputs, samples)
    torch.testing.assert_close(found, run(teacher, pictures)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("own", "wanted"), [(16, 32), (32, 14), (1, 2)])
def test_sides_that_the_teacher_cannot_take_are_refused_with_what_to_set(own: int, wanted: int) -> None:
    student = detector(YOLO, rgb=True, pad=0.0, divisor=own)
    teacher = detector(YOLO, rgb=True, pad=0.0, divisor=wanted)
    with pytest.raises(
        UserError, match=rf"multiples of {own}\..*data_preprocessor\.pad_size_divisor={wanted}"
    ):
        Renormaliser(student, teacher)


@pytest.mark.parametrize("wanted", [1, 16, 32])
def test_sides_that_divide_more_finely_fit(pictures: list[Tensor], wanted: int) -> None:
    student = detector(YOLO, rgb=True, pad=0.0)
    teacher = detector(IMAGENET, rgb=False, pad=2.0, divisor=wanted)
    inputs, samples = run(student, pictures)
    found = Renormaliser(student, teacher)(inputs, samples)
    assert found.shape == inputs.shape
    torch.testing.assert_close(found, run(teacher, pictures)[0], atol=1e-4, rtol=0)
