"""What lies in the samples is recorded where it lies in all of them, and while it is asked for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from ibkd_mm.apis import load_config
from ibkd_mm.distill.recorders import DataSamplesRecorder
from ibkd_mm.errors import UserError
from ibkd_mm.registry import TASK_UTILS

CACHED = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_cached.py"


class Model(nn.Module):
    def forward(self, inputs: Any, samples: Any = None, mode: str = "tensor") -> Any:
        return inputs


def sample(count: int | None) -> DetDataSample:
    made = DetDataSample()
    if count is not None:
        made.teacher_instances = InstanceData(scores=torch.rand(count))
    return made


@pytest.fixture
def watched() -> tuple[Model, DataSamplesRecorder]:
    model = Model()
    recorder = TASK_UTILS.build({"type": "ibkd_mm.DataSamplesRecorder", "source": "teacher_instances"})
    recorder.initialize(model)
    return model, recorder


def test_the_field_of_each_sample_is_recorded(watched: tuple[Model, DataSamplesRecorder]) -> None:
    model, recorder = watched
    samples = [sample(2), sample(0)]
    with recorder:
        model(1, samples, mode="loss")
    found = recorder.get_record_data()
    assert [id(one) for one in found] == [id(each.teacher_instances) for each in samples]
    with recorder:  # the record of a step is gone with the next
        pass
    assert recorder.data_buffer == []


def test_nothing_is_recorded_where_a_sample_lacks_it_or_nobody_asks(
    watched: tuple[Model, DataSamplesRecorder],
) -> None:
    model, recorder = watched
    model(1, [sample(2)])
    with recorder:
        model(1, [sample(2), sample(None)])
    model(1, [sample(2)])
    assert recorder.data_buffer == []


def test_a_model_is_called_without_samples_as_ever(watched: tuple[Model, DataSamplesRecorder]) -> None:
    """As an export does, and whoever counts operations."""
    model, recorder = watched
    assert model(1) == 1
    assert model(1, None) == 1
    assert recorder.data_buffer == []


def test_a_pipeline_without_the_transforms_is_named(
    built: Callable, batch: Callable, losses_of: Callable
) -> None:
    model = built(load_config(CACHED).model.to_dict()).train()
    with pytest.raises(
        UserError, match=r"'cached', which recorded 0 times.*Are LoadTeacherInstances and Split"
    ):
        losses_of(model, batch())
