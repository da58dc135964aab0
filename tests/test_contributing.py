"""The worked examples of CONTRIBUTING.md: applied to a copy of the project, and run there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT

_SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.M | re.S)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
_BUILD = """
import sys
from mmengine.registry import MODELS
from ibkd_mm.config.load import prepare_config
print(type(MODELS.build(prepare_config(sys.argv[1], {}).model)).__name__)
"""
EXAMPLES = {
    title: _BLOCK.findall(body)
    for title, body in _SECTION.findall((ROOT / "CONTRIBUTING.md").read_text())
    if title.startswith("Adding ")
}
FILES = {
    "Adding a loss": ["ibkd_mm/distill/losses/", "add ibkd_mm/distill/losses/", "tests/", "configs/"],
    "Adding a command": ["ibkd_mm/cli/"],
    "Adding a method": [*["ibkd_mm/methods/"] * 2, "configs/", "tests/methods/"],
}
"""The folders that each example touches, in the order of its code blocks; `add` adds one line to a file."""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package, its configs and what its tests share."""
    for folder in ("ibkd_mm", "configs", "tests/helpers"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=ignored)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


@pytest.fixture
def run(copied: Path) -> Callable[..., str]:
    """Run Python in the copy and return what it prints."""

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{copied}{os.pathsep}{copied / 'tests'}"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=copied,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def apply(root: Path, block: str) -> tuple[str, str]:
    """Write a code block to the file that its first line names; return what it touches, and the file."""
    first, content = block.split("\n", 1)
    added, path = re.fullmatch(r"# (add to )?(\S+)", first).groups()
    file = root / path
    assert file.exists() == bool(added), path
    file.parent.mkdir(parents=True, exist_ok=True)
    if added:
        assert content.count("\n") == 1
        content = file.read_text() + content
    file.write_text(content)
    return f"{'add ' if added else ''}{path}", path


@pytest.mark.parametrize("title", FILES)
def test_an_example_is_complete(title: str, copied: Path, run: Callable[..., str]) -> None:
    touched = [apply(copied, text) for language, text in EXAMPLES[title] if language == "python"]
    assert len(touched) == len(FILES[title])
    assert all(found.startswith(folder) for (found, _), folder in zip(touched, FILES[title], strict=True))

    files = [path for _, path in touched]
    run("-m", "ruff", "check", "--no-cache", *files)
    run("-m", "ruff", "format", "--no-cache", "--check", *files)
    for path in files:
        if path.startswith("tests/"):
            assert " passed" in run("-m", "pytest", "-p", "no:cacheprovider", path)
        if path.startswith("configs/"):
            assert run("-c", _BUILD, path).splitlines()[-1] == "FrozenTeacherDistill"
    for language, text in EXAMPLES[title]:
        if language == "text":
            command, shown = text.removeprefix("$ ibkd ").split("\n", 1)
            assert run("-m", "ibkd_mm.cli", *command.split()) == shown


def test_every_example_is_known() -> None:
    assert EXAMPLES.keys() == FILES.keys()
