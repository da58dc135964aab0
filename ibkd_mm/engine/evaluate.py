"""The one evaluation loop outside a runner: predict every batch of a loader and score the predictions."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch import nn

from ibkd_mm.utils.silence import quiet

# Takes the preprocessed inputs and data samples of a batch, returns the samples with predictions.
Predict = Callable[[Any, Any], Sequence[Any]]


class Evaluation:
    """Predict a loader's data batch by batch, and yield the predicted samples of each; `metrics` scores all.

    `loader` and `evaluator` are settings of a validation or test, which runs without worker processes;
    `evaluator` may also be a function that returns them for the loader's dataset.
    """

    def __init__(self, predict: Predict, preprocessor: nn.Module, loader: Any, evaluator: Any) -> None:
        self._predict, self._preprocessor = predict, preprocessor
        settings = {**copy.deepcopy(dict(loader)), "num_workers": 0, "persistent_workers": False}
        settings.pop("prefetch_factor", None)
        with quiet():
            self.loader = Runner.build_dataloader(settings)
            self.dataset = self.loader.dataset
            settings = evaluator(self.dataset) if callable(evaluator) else evaluator
            self.evaluator = Evaluator(copy.deepcopy(settings))
        self.evaluator.dataset_meta = self.dataset.metainfo

    def __iter__(self) -> Iterator[Sequence[Any]]:
        for batch in self.loader:
            with torch.no_grad():
                data = self._preprocessor(batch, False)
                samples = self._predict(data["inputs"], data["data_samples"])
            self.evaluator.process(data_samples=samples, data_batch=data)
            yield samples

    def metrics(self) -> dict[str, Any]:
        """Score all that was predicted."""
        return self.evaluator.evaluate(len(self.dataset))
