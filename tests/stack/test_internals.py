"""Private names of other packages are used in `ibkd_mm/stack` alone; its functions work."""

import ast
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from torch import nn
from torch.utils.data import DataLoader

from ibkd_mm.stack import internals

PACKAGE = ROOT / "ibkd_mm"

# Public names that begin with an underscore: of the standard library and of namedtuples.
PUBLIC = {"_exit", "_replace", "_asdict", "_fields"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def is_own(owner: ast.expr, classes: set[str]) -> bool:
    """Whether an attribute belongs to the object itself, its base class, or a class of the module."""
    if isinstance(owner, ast.Name):
        return owner.id in {"self", "cls"} | classes
    return isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"


def is_attribute_call(node: Any) -> bool:
    """Whether a node is `getattr(x, "name")`, or the like, with a fixed name."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    builtin = node.func.id in ("getattr", "setattr", "hasattr", "delattr")
    return builtin and isinstance(node.args[1], ast.Constant)


def private_names(source: str) -> Iterator[str]:
    """Yield the private names of other packages that a module reads, sets or imports."""
    tree = ast.parse(source)
    classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    node: Any
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value, classes):
            yield node.attr
        if is_attribute_call(node) and is_private(node.args[1].value) and not is_own(node.args[0], classes):
            yield node.args[1].value
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            if not module.startswith("ibkd_mm"):
                names = [part for alias in node.names for part in alias.name.split(".")]
                yield from filter(is_private, [*module.split("."), *names])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("runner._resume", ["_resume"]),
        ("self._resume, super()._save(), point._replace(x=1), os._exit(1), x.__dict__", []),
        ("class Own: ...\nOwn._registry", []),
        ("self.runner._epoch = 3", ["_epoch"]),
        ("from torch.nn.modules.batchnorm import _BatchNorm", ["_BatchNorm"]),
        ("import torch._dynamo as dynamo", ["_dynamo"]),
        ("from ibkd_mm.cli._arguments import add_config", []),
        ("getattr(state, '_metadata', None)", ["_metadata"]),
    ],
)
def test_private_names_are_found(source: str, found: list[str]) -> None:
    assert list(private_names(source)) == found


def test_private_names_of_other_packages_are_used_in_stack_alone() -> None:
    modules = [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "stack" not in path.parents]
    assert len(modules) > 100
    found = {str(path.relative_to(PACKAGE)): set(private_names(path.read_text())) for path in modules}
    assert {file: sorted(names) for file, names in found.items() if names} == {}


def test_every_function_says_what_is_missing_upstream() -> None:
    path = Path(internals.__file__)
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    lines = path.read_text().splitlines()
    for function in functions:
        body = "\n".join(lines[function.lineno : function.end_lineno])
        assert " # " in body, function.name


def test_settings_of_a_runner() -> None:
    loop = {"type": "EpochBasedTrainLoop"}
    runner = SimpleNamespace(_train_loop=loop, _resume=True, _randomness_cfg={"diff_rank_seed": True})
    assert internals.train_loop_of(runner) is loop
    assert internals.is_resuming(runner)
    assert internals.has_rank_seeds(runner)
    assert not internals.has_rank_seeds(SimpleNamespace(_randomness_cfg={"seed": 1}))


def test_workers_of_a_loader_are_ended() -> None:
    loader = DataLoader([1, 2], num_workers=1, persistent_workers=True)
    assert [int(batch) for batch in loader] == [1, 2]
    internals.drop_loader_iterator(loader)
    assert loader._iterator is None


def test_lists_of_tensors_are_copied_and_interpolated_in_place() -> None:
    targets, sources = [torch.zeros(2), torch.zeros(1)], [torch.tensor([2.0, 4.0]), torch.ones(1)]
    internals.lerp_tensors(targets, sources, 0.25)
    assert [value.tolist() for value in targets] == [[0.5, 1.0], [0.25]]
    internals.copy_tensors(targets, sources)
    assert [value.tolist() for value in targets] == [[2.0, 4.0], [1.0]]


def test_a_compiled_module_is_known() -> None:
    module = nn.Linear(1, 1)
    assert not internals.is_compiled(module)
    module.compile(backend="eager")
    assert internals.is_compiled(module)


def test_versions_beside_a_state_dict_and_the_dictionary_of_a_config() -> None:
    state = nn.BatchNorm1d(1).state_dict()
    assert internals.state_dict_metadata(state)[""]["version"] == 2
    copy = OrderedDict(state)
    internals.copy_state_dict_metadata(state, copy)
    assert copy._metadata == state._metadata
    assert internals.state_dict_metadata({}) == {}
    internals.copy_state_dict_metadata({}, {})  # a plain dictionary has no place for them
    config = Config({"model": {"type": "A"}})
    assert internals.config_dict_of(config)["model"] is config.model
