"""Every config builds all that a run needs: model, pipelines, evaluators, hooks, optimiser, schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, PARAM_SCHEDULERS

from ibkd_mm.config.walk import innermost_dataset
from ibkd_mm.offline import CacheWriter

CONFIG_ROOT = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(
    str(path.relative_to(CONFIG_ROOT)) for path in CONFIG_ROOT.glob("*/**/*.py") if "_base_" not in path.parts
)
MAX_LINES = 40
PACKS = {"mmdet": "PackDetInputs", "mmseg": "PackSegInputs"}
METRICS_OF = {"mmdet": ["bbox", "segm"], "mmseg": ["mIoU"]}


@dataclass
class Built:
    name: str
    config: Config
    model: torch.nn.Module


LAST: list[Built] = []


@pytest.fixture(scope="module", params=CONFIGS)
def built(request: pytest.FixtureRequest, load: Callable[..., Config], build: Callable[..., Any]) -> Built:
    """The config and its model; of configs beside each other that differ in other things alone, the same."""
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


def test_there_are_configs_of_every_method_so_far() -> None:
    assert {Path(name).parent.name for name in CONFIGS} >= {"mask_rcnn", "mask2former", "ibkd"}


@pytest.mark.parametrize("name", CONFIGS)
def test_is_short_and_asks_for_nothing_but_this_package(name: str) -> None:
    path = CONFIG_ROOT / name
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert Config.fromfile(path).custom_imports == {
        "imports": ["ibkd_mm.register_all"],
        "allow_failed_imports": False,
    }


def test_loading_what_a_dump_of_it_says_gives_the_same_config(built: Built, tmp_path: Path) -> None:
    built.config.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py").to_dict() == built.config.to_dict()


def without_scopes(node: Any) -> Any:
    """The same without mmengine's marks of which package a part was inherited from."""
    if isinstance(node, dict):
        return {key: without_scopes(value) for key, value in node.items() if key != "_scope_"}
    return type(node)(map(without_scopes, node)) if isinstance(node, list | tuple) else node


@pytest.mark.parametrize("name", CONFIGS)
def test_another_project_inherits_the_same_by_the_packages_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(f"_base_ = ['ibkd_mm::{name}']")
    child, here = Config.fromfile(tmp_path / "child.py"), Config.fromfile(CONFIG_ROOT / name)
    assert without_scopes(child.to_dict()) == without_scopes(here.to_dict())


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


def steps(node: Any) -> list[Any]:
    """The transforms that a sample passes, from the innermost data set outwards; of several, the first's."""
    if isinstance(node, dict):
        own = Compose(node["pipeline"]) if "pipeline" in node else []
        first, *_ = node.get("datasets") or [node.get("dataset", [])]
        return [*steps(first), *steps(own)]
    inner = getattr(node, "transforms", node)
    return [step for each in inner for step in steps(each)] if isinstance(inner, list) else [node]


def test_pipelines_start_with_a_file_and_end_with_what_the_model_takes(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if built.config.get("teacher_cache"):  # a cached config reads one
        CacheWriter(Path(built.config.teacher_cache.path), {}).close()
    for split in ("train", "val", "test"):
        names = [type(step).__name__ for step in steps(built.config[f"{split}_dataloader"].dataset)]
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
            if not files:  # it is with the pictures that the truth comes
                continue
            # Shapes lays its files out itself, for `split`
            annotations = dataset.get("ann_file") or f"/annotations/{dataset['split']}.json"
            assert evaluator["ann_file"] == dataset["data_root"] + annotations


def test_optimiser_holds_every_trainable_parameter_once(built: Built) -> None:
    optimizer = build_optim_wrapper(built.model, built.config.optim_wrapper).optimizer
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    trainable = {id(p) for p in built.model.parameters() if p.requires_grad}
    assert trainable <= set(held)


def test_schedule_ends_with_the_training_and_never_exceeds_the_rate_asked_for(built: Built) -> None:
    """Upstream's caffe 3x schedule stops at epoch 24 of 36, before its first milestone; ours must not."""
    loop = built.config.train_cfg
    assert LOOPS.get(loop.type) is not None
    schedulers = as_list(built.config.param_scheduler)
    length = loop.get("max_epochs") or loop.max_iters
    ends = [s["end"] for s in schedulers if s.get("by_epoch", True) is ("max_epochs" in loop)]
    assert max(ends, default=length) == length  # without any, the rate is constant
    assert all(m < s["end"] for s in schedulers for m in s.get("milestones", []))

    wrapper = build_optim_wrapper(
        torch.nn.Linear(1, 1), {**built.config.optim_wrapper, "paramwise_cfg": None}
    )
    asked = wrapper.get_lr()["lr"][0]
    for scheduler in schedulers:
        PARAM_SCHEDULERS.build(scheduler, default_args={"optimizer": wrapper, "epoch_length": 10})
    assert 0 < wrapper.get_lr()["lr"][0] <= asked


def test_hooks_and_guards_are_built_with_their_settings(built: Built) -> None:
    guards = [guard for guard in built.config.default_hooks.values() if guard]
    for hook in [*built.config.get("custom_hooks", []), *guards]:
        assert type(HOOKS.build(hook)) is HOOKS.get(hook["type"])
    checks = {guard["type"] for guard in guards} & {"ibkd_mm.TeacherCheckHook", "ibkd_mm.CacheCheckHook"}
    assert len(checks) == (built.config.model.type == "ibkd_mm.FrozenTeacherDistill")
