"""What the runs of a few steps on a few pictures share."""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mmdet.evaluation import CocoMetric
from torch import nn

from ibkd_mm.apis import TrainResult, train
from ibkd_mm.engine import load_weights

STEPS = 4


@dataclass
class Run:
    """What a training left, and what it did to its teacher."""

    result: TrainResult
    model: Any
    runner: Any
    teacher: list[dict[str, bytes]] = field(default_factory=list)
    """Its contents before and after."""
    forwards: int = 0
    """How often it ran for a step; the check before them does not count."""
    predicted: list[Any] = field(default_factory=list)
    """What the student found in the validation."""

    def checkpoint(self, step: int = STEPS) -> dict[str, Any]:
        return load_weights(str(self.result.work_dir / f"iter_{step}.pth"))

    def history(self, name: str) -> list[float]:
        return self.checkpoint()["message_hub"]["log_scalars"][f"train/{name}"].data[0].tolist()


def contents(model: nn.Module) -> dict[str, bytes]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: one.detach().numpy().tobytes() for name, one in named}


@contextmanager
def _predictions() -> Iterator[list[Any]]:
    """Collect what each evaluation of pictures is given, the last of them."""
    found: list[Any] = []

    def process(metric: CocoMetric, batch: Any, samples: list[dict[str, Any]]) -> None:
        found[:] = copy.deepcopy([sample["pred_instances"] for sample in samples])
        original(metric, batch, samples)

    with pytest.MonkeyPatch.context() as patch:
        original = CocoMetric.process
        patch.setattr(CocoMetric, "process", process)
        yield found


@pytest.fixture(scope="session")
def predictions() -> Callable[[], AbstractContextManager[list[Any]]]:
    """Collect what an evaluation of pictures is given."""
    return _predictions


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distillation")


@pytest.fixture(scope="session")
def options(folder: Path) -> dict[str, Any]:
    """A few pictures of 64x64, a checkpoint every two steps, a validation at the end."""
    spec = {"preset": "easy", "train": 8, "val": 4, "size": 64}
    made: dict[str, Any] = {
        "train_cfg.max_iters": STEPS,
        "train_cfg.val_interval": STEPS,
        "default_hooks.checkpoint.interval": 2,
        "default_hooks.logger.interval": 1,
        "custom_hooks.0.warmup": 2,
        "param_scheduler.0.end": 2,
        "randomness.seed": 3,
        "train_dataloader.batch_size": 2,
        "val_evaluator.ann_file": str(folder / "shapes" / "annotations" / "val.json"),
        "test_evaluator.ann_file": str(folder / "shapes" / "annotations" / "val.json"),
    }
    for purpose in ("train", "val", "test"):
        loader = f"{purpose}_dataloader"
        made.update({f"{loader}.num_workers": 0, f"{loader}.persistent_workers": False})
        made.update({f"{loader}.dataset.data_root": str(folder / "shapes"), f"{loader}.dataset.spec": spec})
        if purpose != "train":
            made[f"{loader}.dataset.pipeline.1.scale"] = (64, 64)
    return made


@pytest.fixture(scope="session")
def run(folder: Path, options: dict[str, Any]) -> Callable[..., Run]:
    """Train, and watch what becomes of the teacher."""

    def run(name: str, config: str, more: dict[str, Any] | None = None, resume: Path | None = None) -> Run:
        module = sys.modules["ibkd_mm.apis.train"]
        build, done = module.build_runner, Run(None, None, None)  # type: ignore[arg-type]

        def build_and_watch(*given: Any) -> Any:
            done.runner = build(*given)
            done.model = done.runner.model
            if hasattr(done.model, "teacher"):
                done.teacher.append(contents(done.model.teacher))
                done.model.teacher.register_forward_pre_hook(count, with_kwargs=True)
            return done.runner

        def count(_: Any, __: Any, named: dict[str, Any]) -> None:
            done.forwards += named["mode"] == "tensor"

        with pytest.MonkeyPatch.context() as patch, _predictions() as done.predicted:
            patch.setattr(module, "build_runner", build_and_watch)
            done.result = train(
                config,
                options={**options, **(more or {})},
                work_dir=str(folder / name),
                resume=resume and str(resume),
            )
        if done.teacher:
            done.teacher.append(contents(done.model.teacher))
        return done

    return run
