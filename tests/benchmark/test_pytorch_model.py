"""Detectors of mmdet as a benchmark runs them."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from ibkd_mm.benchmark.benchmark_model import BenchmarkSettings
from ibkd_mm.benchmark.pytorch_model import open_detector, test_transforms
from ibkd_mm.config.load import prepare_config
from ibkd_mm.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)


@pytest.fixture
def config() -> Config:
    return prepare_config("ibkd_mm::yolov10/yolov10n-seg_shapes-hard.py", None)


def test_the_student_is_deployed_and_finds_all_instances(config: Config) -> None:
    model = open_detector(config, None, IMAGE, BenchmarkSettings(size=(64, 96)))
    found = model.count()
    assert model.inputs == [(1, 3, 64, 96)]
    assert found.flops is not None
    assert model.pipeline is not None
    everything = open_detector(config, None, IMAGE, BenchmarkSettings(size=(64, 96), score=0.0))
    nothing = open_detector(config, None, IMAGE, BenchmarkSettings(size=(64, 96), score=1.0))
    assert everything.pipeline is not None
    assert nothing.pipeline is not None
    assert everything.pipeline() == 8 * 12 + 4 * 6 + 2 * 3
    assert nothing.pipeline() == 0


def test_without_a_size_images_get_the_configs_size(config: Config) -> None:
    assert open_detector(config, None, IMAGE, BenchmarkSettings()).inputs == [(1, 3, 96, 160)]


def test_a_batch_has_no_whole_pipeline(config: Config) -> None:
    model = open_detector(config, None, IMAGE, BenchmarkSettings(size=(64, 64), batch=2))
    assert (model.inputs, model.pipeline) == ([(2, 3, 64, 64)], None)


def test_flops_are_of_the_deployed_student(config: Config) -> None:
    """80 classes at 64x64, a hundredth of the published figure at 640x640."""
    config.model.bbox_head.num_classes = 80
    found = open_detector(config, None, IMAGE, BenchmarkSettings(size=(64, 64))).count()
    assert found.parameters == 2_551_680
    assert found.flops is not None
    assert found.flops.weights == 99_537_024
    assert found.size == 4 * (2_551_680 + 6)  # and the mean and deviation of pixels


def test_the_network_gets_the_pixels_of_the_pipeline(config: Config) -> None:
    """The deployed student takes pixels, the detector normalised values: both get the same image."""
    model = open_detector(config, None, IMAGE, BenchmarkSettings(size=(64, 96)))
    inputs = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, values: (
            inputs.append(values[0]) if type(module).__name__ == "DeployedStudent" else None
        )
    )
    try:
        model.forward()
    finally:
        hook.remove()
    (pixels,) = inputs
    assert pixels.shape == (1, 3, 64, 96)
    assert pixels[0, :, 60, 90].tolist() == pytest.approx([114.0] * 3, abs=1e-3)
    assert pixels[0, :, :57, :].mean() == pytest.approx(float(IMAGE.mean()), abs=3)


def test_transforms_take_an_image_in_memory() -> None:
    config = prepare_config("ibkd_mm::rtmdet/rtmdet-ins_tiny_shapes.py", None)
    kinds = [str(step["type"]).rpartition(".")[2] for step in test_transforms(config, (32, 64))]
    assert kinds == ["LoadImageFromNDArray", "Resize", "Pad", "PackDetInputs"]
    steps = test_transforms(config, (32, 64))
    assert (steps[1]["scale"], steps[1]["keep_ratio"], steps[2]["size"]) == ((64, 32), True, (64, 32))
    config.test_dataloader.dataset.pipeline = [{"type": "LoadImageFromFile"}, {"type": "PackDetInputs"}]
    with pytest.raises(UserError, match="Expected a Resize"):
        test_transforms(config, (32, 64))


def test_weights_of_another_model_are_refused(config: Config) -> None:
    with pytest.raises(UserError, match=r"does not fit the model of .*shapes-hard\.py"):
        open_detector(config, {"backbone.stem.conv.weight": torch.zeros(1)}, IMAGE, BenchmarkSettings())
