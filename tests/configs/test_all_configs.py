"""Every config builds what a run needs: model, pipelines, evaluators, hooks, optimizer, schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CONFIGS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, PARAM_SCHEDULERS

from ibkd_mm.config.walk import innermost_dataset, to_builtin
from ibkd_mm.engine.runner import SAFETY_HOOKS, with_safety_hooks
from ibkd_mm.offline import CacheWriter

FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("*/**/*.py"))
NAMES = [name for name in FILES if not name.startswith("_base_")]
MAX_LINES = 40
PACKS = {"mmdet": "PackDetInputs", "mmseg": "PackSegInputs"}
METRICS_OF = {"mmdet": ["bbox", "segm"], "mmseg": ["mIoU"]}


@dataclass
class Built:
    name: str
    config: Config
    model: torch.nn.Module


LAST: list[Built] = []


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest, load: Callable[..., Config], build: Callable[..., Any]) -> Built:
    """Return a config and its model, which adjacent configs with equal `model` share."""
    config = load(request.param)
    model = next((last.model for last in LAST if last.config.model == config.model), None) or build(config)
    LAST[:] = [Built(request.param, config, model)]
    return LAST[0]


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def class_names(dataset: dict[str, Any]) -> tuple[str, ...]:
    if "metainfo" in dataset:
        return dataset["metainfo"]["classes"]
    with DATASETS.switch_scope_and_registry(None) as registry:
        return registry.get(dataset["type"]).METAINFO["classes"]


def test_every_method_has_configs() -> None:
    assert {Path(name).parent.name for name in NAMES} >= {"mask_rcnn", "mask2former", "ibkd"}


@pytest.mark.parametrize("name", FILES)
def test_is_short(name: str) -> None:
    assert len((CONFIGS / name).read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", NAMES)
def test_imports_only_this_package(name: str) -> None:
    assert Config.fromfile(CONFIGS / name).custom_imports == {
        "imports": ["ibkd_mm.register_all"],
        "allow_failed_imports": False,
    }


def test_a_dumped_config_loads_as_the_same_config(built: Built, tmp_path: Path) -> None:
    built.config.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py").to_dict() == built.config.to_dict()


@pytest.mark.parametrize("name", NAMES)
def test_another_project_inherits_the_same_by_the_packages_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(f"_base_ = ['ibkd_mm::{name}']")
    child, here = Config.fromfile(tmp_path / "child.py"), Config.fromfile(CONFIGS / name)
    assert to_builtin(child.to_dict()) == to_builtin(here.to_dict())


def test_heads_have_as_many_classes_as_the_data(built: Built) -> None:
    names = {
        split: class_names(innermost_dataset(built.config[f"{split}_dataloader"].dataset))
        for split in ("train", "val")
    }
    assert names["train"] == names["val"]
    heads = {
        name: module.num_classes
        for name, module in built.model.named_modules()
        if isinstance(getattr(module, "num_classes", None), int) and not name.endswith("rpn_head")
    }
    assert heads
    assert set(heads.values()) == {len(names["train"])}, heads


def transforms(node: Any) -> list[Any]:
    """List the transforms of a sample, from the innermost dataset outwards; of several, the first's."""
    if isinstance(node, dict):
        outer = Compose(node["pipeline"]) if "pipeline" in node else []
        first, *_ = node.get("datasets") or [node.get("dataset", [])]
        return [*transforms(first), *transforms(outer)]
    inner = getattr(node, "transforms", node)
    return [step for each in inner for step in transforms(each)] if isinstance(inner, list) else [node]


def test_pipelines_start_with_a_file_and_end_with_the_models_input(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if built.config.get("teacher_cache"):  # the pipeline opens it
        CacheWriter(Path(built.config.teacher_cache.path), {}).close()
    for split in ("train", "val", "test"):
        names = [type(step).__name__ for step in transforms(built.config[f"{split}_dataloader"].dataset)]
        assert names[0] == "LoadImageFromFile"
        packed = names.index(PACKS[built.config.default_scope])
        assert set(names[packed + 1 :]) <= {"MaskCells", "SplitTeacherInstances"}
        assert names.count("LoadAnnotations") == 1


def test_evaluators_measure_masks_on_the_validation_file(built: Built) -> None:
    for split in ("val", "test"):
        dataset = innermost_dataset(built.config[f"{split}_dataloader"].dataset)
        for evaluator in as_list(built.config[f"{split}_evaluator"]):
            files = {"ann_file": None} if "ann_file" in evaluator else {}
            assert METRICS.build({**evaluator, **files}).metrics == METRICS_OF[built.config.default_scope]
            if not files:  # the ground truth comes with the samples
                continue
            # ShapesDataset chooses its files by `split`
            annotations = dataset.get("ann_file") or f"/annotations/{dataset['split']}.json"
            assert evaluator["ann_file"] == dataset["data_root"] + annotations


def test_optimizer_holds_every_trainable_parameter_once(built: Built) -> None:
    optimizer = build_optim_wrapper(built.model, built.config.optim_wrapper).optimizer
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    trainable = {id(p) for p in built.model.parameters() if p.requires_grad}
    assert trainable <= set(held)


def test_schedule_ends_with_the_training_and_never_exceeds_the_learning_rate(built: Built) -> None:
    """Upstream's caffe 3x schedule stops at epoch 24 of 36, before its first milestone; ours must not."""
    loop = built.config.train_cfg
    assert LOOPS.get(loop.type) is not None
    schedulers = as_list(built.config.param_scheduler)
    length = loop.get("max_epochs") or loop.max_iters
    ends = [s["end"] for s in schedulers if s.get("by_epoch", True) is ("max_epochs" in loop)]
    assert max(ends, default=length) == length  # without any, the learning rate is constant
    assert all(m < s["end"] for s in schedulers for m in s.get("milestones", []))

    wrapper = build_optim_wrapper(
        torch.nn.Linear(1, 1), {**built.config.optim_wrapper, "paramwise_cfg": None}
    )
    learning_rate = wrapper.get_lr()["lr"][0]
    for scheduler in schedulers:
        PARAM_SCHEDULERS.build(scheduler, default_args={"optimizer": wrapper, "epoch_length": 10})
    assert 0 < wrapper.get_lr()["lr"][0] <= learning_rate


def test_hooks_are_built_with_their_settings(built: Built) -> None:
    named = with_safety_hooks(built.config.default_hooks).values()
    hooks = [hook for hook in named if hook and hook["type"].startswith("ibkd_mm.")]
    assert len(hooks) >= len(SAFETY_HOOKS)
    for hook in [*built.config.get("custom_hooks", []), *hooks]:
        assert type(HOOKS.build(hook)) is HOOKS.get(hook["type"])
    checks = {hook["type"] for hook in hooks} & {"ibkd_mm.TeacherCheckHook", "ibkd_mm.CacheCheckHook"}
    assert len(checks) == (built.config.model.type == "ibkd_mm.FrozenTeacherDistill")
