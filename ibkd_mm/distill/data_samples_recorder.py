"""A recorder of what the data samples of a batch hold."""

from typing import Any

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import nn

from ibkd_mm.registry import TASK_UTILS


@TASK_UTILS.register_module()
class DataSamplesRecorder(BaseRecorder):
    """Records a field of each data sample that a model is called with; `source` is the field's name.

    In a config: `dict(type='ibkd_mm.DataSamples', source='teacher_instances')`.
    """

    hint = " Are LoadTeacherInstances and SplitTeacherInstances in the train pipeline?"

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._recording = False

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Listen to the model's calls."""
        assert model is not None
        model.register_forward_pre_hook(self._record)

    def _record(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        samples = arguments[1] if self._recording and len(arguments) > 1 else None
        if samples and all(self.source in sample for sample in samples):
            self.data_buffer.append([getattr(sample, self.source) for sample in samples])

    def __enter__(self) -> None:
        super().__enter__()
        self._recording = True

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._recording = False
