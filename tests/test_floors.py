"""Imports only point down the floors, and no file is too long."""

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

DIAGNOSIS = ("ibkd_mm/stack/doctor_checks.py", "ibkd_mm.register_all")
"""`ibkd doctor` tries to import everything, from the one folder that needs no other package."""

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
        elif isinstance(node, ast.Call) and "import_module" in ast.dump(node.func):
            yield from (
                tuple(str(each.value).split(".")) for each in node.args if isinstance(each, ast.Constant)
            )


def _is_allowed(file: tuple[str, ...], imported: tuple[str, ...]) -> bool:
    """Return whether a file of ibkd_mm, by the parts of its path, may import a name of ibkd_mm."""
    package = file[1].removesuffix(".py")
    if package == "register_all" or ("/".join(file), ".".join(imported)) == DIAGNOSIS:
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
        ("stack/x.py", "importlib.import_module('ibkd_mm.engine')", {"ibkd_mm.engine"}),
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
    assert not wrong


def test_no_file_is_too_long() -> None:
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert {path for path, length in lengths.items() if length > MAX_LINES} == LONG_FILES
