"""Imports only point down the floors, `stack` alone uses others' private names, and no file is too long."""

import ast
from collections import defaultdict
from collections.abc import Iterator

import pytest
from helpers import ROOT

FLOORS = (
    {"stack"},
    {"errors", "version"},
    {"utils", "registry"},
    {"config"},
    {"engine"},
    {"datasets", "visual", "backbones"},
    {"data_check"},
    {"yolov10"},
    {"distill"},
    {"offline"},
    {"methods"},
    {"deploy"},
    {"benchmark"},
    {"report"},
    {"apis"},
    {"quickstart"},
    {"cli"},
)
"""From the lowest to the highest; a package imports itself and lower floors."""

MAX_LINES = 300
LONG_FILES = {"ibkd_mm/deploy/runtime.py"}
"""Files that may be longer; the runtime is one file because users copy it."""

ALLOWED: dict[str, set[str]] = {
    "ibkd_mm/distill/hooks/teacher_check.py": {"ibkd_mm.methods"},
    "ibkd_mm/offline/build_cache.py": {"ibkd_mm.methods"},
}
"""Known wrong imports. An entry goes with its import."""
ALLOWED_LONG_FILES = {"ibkd_mm/quickstart/user_data.py"}
ALLOWED_PRIVATE_NAMES = {
    "ibkd_mm/benchmark/pytorch_model.py": {"_enable_normalize", "_channel_conversion"},
    "ibkd_mm/deploy/model_info.py": {"_enable_normalize", "_channel_conversion"},
    "ibkd_mm/engine/checkpoint/state_dict_match.py": {"_metadata"},
    "ibkd_mm/engine/compile.py": {"_compiled_call_impl"},
    "ibkd_mm/engine/hooks/non_finite.py": {"_foreach_copy_"},
    "ibkd_mm/engine/hooks/preemption.py": {"_resume"},
    "ibkd_mm/engine/hooks/student_ema.py": {"_foreach_lerp_"},
    "ibkd_mm/engine/loops.py": {"_randomness_cfg"},
    "ibkd_mm/engine/resume/data_position.py": {"_train_loop", "_resume"},
    "ibkd_mm/methods/ibkd/auxiliary_head_loss.py": {"_BatchNorm"},
    "ibkd_mm/quickstart/recipe.py": {"_cfg_dict"},
    "ibkd_mm/yolov10/export_graph.py": {"_enable_normalize", "_channel_conversion"},
}

_LEVELS = {name: level for level, names in enumerate(FLOORS) for name in names}
FILES = sorted(file for file in (ROOT / "ibkd_mm").rglob("*.py") if ".mim" not in file.parts)


def _imported_modules(source: str) -> Iterator[tuple[str, ...]]:
    """Yield the parts of the name of everything that is imported, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from ((*str(node.module).split("."), alias.name) for alias in node.names)


def _is_allowed(file: tuple[str, ...], imported: tuple[str, ...]) -> bool:
    """Return whether a file of ibkd_mm, by the parts of its path, may import a name of ibkd_mm."""
    package = file[1].removesuffix(".py")
    if package == "register_all":
        return True
    if package == "__init__":
        return imported[1] == "version"
    if package == imported[1] == "methods" and len(file) > 3 and len(imported) > 2:
        return file[2] == imported[2]
    return package == imported[1] or _LEVELS.get(imported[1], len(FLOORS)) < _LEVELS[package]


def _wrong_imports(file: tuple[str, ...], source: str) -> set[str]:
    ours = (name for name in _imported_modules(source) if name[0] == "ibkd_mm" and len(name) > 1)
    return {".".join(name[:2]) for name in ours if not _is_allowed(file, name)}


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("engine/x.py", "def f():\n    from ibkd_mm.distill import teacher", {"ibkd_mm.distill"}),
        ("engine/x.py", "from ibkd_mm import apis, registry", {"ibkd_mm.apis"}),
        ("visual/x.py", "import ibkd_mm.datasets.shapes", {"ibkd_mm.datasets"}),
        (
            "engine/hooks/x.py",
            "from ibkd_mm.engine.checkpoint import save\nfrom ibkd_mm.stack import ops",
            set(),
        ),
        ("apis/x.py", "import ibkd_mm.register_all", {"ibkd_mm.register_all"}),
        ("methods/rhis/x.py", "from ibkd_mm.methods.ibkd import losses", {"ibkd_mm.methods"}),
        ("methods/rhis/x.py", "from ibkd_mm.methods.rhis import losses", set()),
        ("register_all.py", "from ibkd_mm.methods import ibkd", set()),
        ("__init__.py", "import ibkd_mm.engine", {"ibkd_mm.engine"}),
    ],
)
def test_wrong_imports_are_found(file: str, source: str, expected: set[str]) -> None:
    assert _wrong_imports(("ibkd_mm", *file.split("/")), source) == expected


def test_every_package_has_a_floor() -> None:
    names = {file.relative_to(ROOT).parts[1].removesuffix(".py") for file in FILES}
    assert names - {"__init__", "register_all"} <= set(_LEVELS)


def test_imports_only_point_down() -> None:
    wrong: dict[str, set[str]] = defaultdict(set)
    for file in FILES:
        path = file.relative_to(ROOT)
        if found := _wrong_imports(path.parts, file.read_text()):
            wrong[str(path)] = found
    assert wrong == ALLOWED


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of functions, classes, variables and attributes that a file defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _private_names(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that a file imports or reads from something else than `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls", "os"):
            yield from filter(_is_private, [node.attr])
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("ibkd_mm"):
            yield from filter(_is_private, (alias.name for alias in node.names))


def test_private_names_are_found() -> None:
    tree = ast.parse("from torch import _C, nn\nrunner._resume = self._mine = a.b._c.__d__; os._exit(1)")
    assert set(_private_names(tree)) == {"_C", "_resume", "_c"}
    assert set(_defined_names(ast.parse("self._a = runner._b = _c = 1\ndef _d(): ..."))) == {"_a", "_c", "_d"}


def test_only_the_stack_uses_private_names_of_other_packages() -> None:
    """A private name that ibkd_mm does not define is another package's."""
    trees = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in FILES}
    ours = {"_asdict", "_replace", *(name for tree in trees.values() for name in _defined_names(tree))}
    others = {
        path: set(_private_names(tree)) - ours
        for path, tree in trees.items()
        if not path.startswith("ibkd_mm/stack/")
    }
    assert {path: names for path, names in others.items() if names} == ALLOWED_PRIVATE_NAMES


def test_no_file_is_too_long() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert {path for path, length in lengths.items() if length > MAX_LINES} - LONG_FILES == ALLOWED_LONG_FILES
