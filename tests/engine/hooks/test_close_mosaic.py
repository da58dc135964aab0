"""Mosaics end at the very batch that was asked for, with any workers, and for a resumed training too."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from ibkd_mm.engine import (
    CloseMosaicHook,
    ResumableEpochLoop,
    ResumableIterLoop,
    ResumableRunner,
    load_weights,
)
from ibkd_mm.engine.checkpoint.latest import find_resumable
from ibkd_mm.engine.dataset_tree import walk_datasets, walk_transforms
from ibkd_mm.errors import UserError

Toy = Callable[..., ResumableRunner]
CHANGED = 1000


class Mixing:
    """Stands for a mosaic: what it does is seen in the sample."""

    def __init__(self) -> None:
        self.open = True

    def __call__(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**sample, "inputs": sample["inputs"] + CHANGED * self.open}

    def close(self) -> None:
        self.open = False


class Wrapped(Dataset[dict[str, Tensor]]):
    """A data set around another one, as mmdet's MultiImageMixDataset."""

    metainfo = {"classes": ("a", "b")}

    def __init__(self) -> None:
        self.dataset = DATASETS.build({"type": "Noisy"})
        self.pipeline = [Mixing()]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.pipeline[0](self.dataset[index])


class Watch(Hook):
    """Notes which batches were mixed."""

    def __init__(self) -> None:
        self.mixed: list[bool] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seen = {bool(one.mean() > CHANGED / 2) for one in data_batch["inputs"]}
        assert len(seen) == 1
        self.mixed.append(seen.pop())


class StopAt(Hook):
    """Ends a training early, as a signal would: behind the checkpoint."""

    priority = "LOWEST"

    def __init__(self, stop: int) -> None:
        self.stop = stop

    def after_train_epoch(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, ResumableEpochLoop):
            runner.train_loop.stop_training |= runner.epoch + 1 == self.stop

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if isinstance(runner.train_loop, ResumableIterLoop):
            runner.train_loop.stop_training |= runner.iter + 1 == self.stop


@pytest.fixture(autouse=True, scope="module")
def _registered_too() -> None:
    DATASETS.register_module(module=Wrapped, force=True)
    HOOKS.register_module(module=StopAt, force=True)


def watched(
    toy: Toy, folder: Path, steps: int, last: int, **changes: Any
) -> tuple[ResumableRunner, list[bool]]:
    hook = {"type": "ibkd_mm.CloseMosaicHook", "last": last}
    runner = toy(folder, steps, hooks=[hook], **{"dataset": {"type": "Wrapped"}, **changes})
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return runner, watch.mixed


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("steps", "last"), [(3, 1), (2, 0), (2, 2), (2, 5)])
def test_the_last_epochs_are_without(toy: Toy, tmp_path: Path, workers: int, steps: int, last: int) -> None:
    _, mixed = watched(toy, tmp_path, steps, last, epochs=True, workers=workers)
    closed = min(last, steps)
    assert mixed == [True] * 3 * (steps - closed) + [False] * 3 * closed  # three batches are an epoch


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", ["DefaultSampler", "InfiniteSampler"])
def test_the_last_iterations_are_without(toy: Toy, tmp_path: Path, workers: int, sampler: str) -> None:
    changes = {"workers": workers, "sampler": sampler}
    for last, mixed in ((2, [True] * 3 + [False] * 2), (4, [True] + [False] * 4), (9, [False] * 5)):
        assert watched(toy, tmp_path / str(last), 5, last, **changes)[1] == mixed


def same(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return torch.equal(left, right) if isinstance(left, Tensor) else left == right


def trained(runner: ResumableRunner) -> Any:
    found = find_resumable(Path(runner.work_dir))
    assert found is not None
    checkpoint = load_weights(found)
    return [checkpoint[key] for key in ("state_dict", "optimizer", "data_position")]


@pytest.mark.parametrize(
    ("kind", "stop", "workers"),
    [
        *((kind, stop, 0) for kind in ("DefaultSampler", "InfiniteSampler", "epochs") for stop in (2, 3, 4)),
        *(("InfiniteSampler", 2, 2), ("epochs", 3, 2), ("DefaultSampler", 3, 2), ("DefaultSampler", 4, 2)),
    ],
)
def test_resuming_across_the_switch_is_exact(
    toy: Toy, tmp_path: Path, kind: str, stop: int, workers: int
) -> None:
    """Before the switch, right at it, and behind it."""
    changes: dict[str, Any] = {"workers": workers}
    changes.update({"epochs": True} if kind == "epochs" else {"sampler": kind})
    straight, mixed = watched(toy, tmp_path / "straight", 5, 2, **changes)
    folder = tmp_path / "halved"
    hooks = [{"type": "ibkd_mm.CloseMosaicHook", "last": 2}, {"type": "StopAt", "stop": stop}]
    toy(folder, 5, hooks=hooks, dataset={"type": "Wrapped"}, saving={"interval": 1}, **changes).train()
    resumed, rest = watched(toy, folder, 5, 2, resume=True, load_from=str(find_resumable(folder)), **changes)
    each = 3 if kind == "epochs" else 1
    assert rest == mixed[stop * each :]
    assert same(trained(straight), trained(resumed))


def test_transforms_are_found_in_whatever_wraps_them_and_once_each() -> None:
    mosaic, paste, within = Mixing(), Mixing(), Mixing()
    innermost_dataset = SimpleNamespace(pipeline=Compose([len, within]))
    mixed = SimpleNamespace(dataset=innermost_dataset, pipeline=[mosaic])
    joined = SimpleNamespace(datasets=[mixed, SimpleNamespace(dataset=mixed)])
    choice = SimpleNamespace(transforms=[[len, SimpleNamespace(transforms=[paste])], [paste]])
    outer = SimpleNamespace(dataset=joined, pipeline=[choice, len], close=lambda: None)
    found = [each for each in walk_transforms(*walk_datasets(outer)) if hasattr(each, "close")]
    assert sorted(map(id, found)) == sorted(map(id, (mosaic, paste, within)))


def test_a_data_set_without_anything_to_turn_off_is_named(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finds no transform to turn off.*Remove the hook from custom_hooks"):
        watched(toy, tmp_path, 2, 1, dataset={"type": "Noisy"})
    with pytest.raises(UserError, match="at least 0 in CloseMosaicHook, found -1"):
        CloseMosaicHook(-1)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("epochs", [True, False])
def test_loops_of_mmengine_are_switched_too(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, epochs: bool
) -> None:
    monkeypatch.setattr("ibkd_mm.engine.runner._REPLACEMENTS", {})
    runner, mixed = watched(
        toy, tmp_path, 2 if epochs else 3, 1, epochs=epochs, workers=workers, guards={"data_position": None}
    )
    assert type(runner.train_loop).__module__ == "mmengine.runner.loops"
    assert mixed == ([True] * 3 + [False] * 3 if epochs else [True, True, False])
    runner.train_loop.dataloader._iterator = None  # or torch waits five seconds for each worker
    runner.train_loop.dataloader_iterator = None
