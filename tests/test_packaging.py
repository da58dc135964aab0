"""The wheel is complete: packages, configs, weights, the command, and the pins."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from helpers import ROOT
from packaging.requirements import Requirement

from ibkd_mm.version import __version__

SOURCES = ("ibkd_mm", "configs", "requirements")
FILES = ("setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md")


def _build(source, kind, out):
    """Call the build backend as pip does; return the file that it wrote."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the source, as building writes files into it."""
    copy = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return _build(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the installed wheel, separate from the environment's ibkd_mm."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    return target


def _run(installed, cwd, *command):
    """Run with the installed package first on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def _content(wheel):
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_wheel_has_every_module_and_config_and_weight(wheel):
    modules = {
        str(file.relative_to(ROOT)) for file in ROOT.glob("ibkd_mm/**/*.py") if ".mim" not in file.parts
    }
    configs = {
        f"ibkd_mm/.mim/configs/{file.relative_to(ROOT / 'configs')}" for file in ROOT.glob("configs/**/*.py")
    }
    weights = {str(file.relative_to(ROOT)) for file in ROOT.glob("ibkd_mm/weights/*") if file.is_file()}
    others = {"ibkd_mm/py.typed", "ibkd_mm/.mim/model-index.yml"}
    assert len(configs) > 10
    assert _content(wheel) == modules | configs | weights | others
    assert {name.split("/")[0] for name in _content(wheel)} == {"ibkd_mm"}


def test_the_wheel_from_the_source_archive_is_the_same(source, wheel, tmp_path):
    archive = _build(source, "sdist", tmp_path)
    with tarfile.open(archive) as tar:
        assert not [member.name for member in tar if member.issym() or member.islnk()]
        tar.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    assert _content(_build(unpacked, "wheel", tmp_path)) == _content(wheel)


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(info).decode()
        points = archive.read(info.replace("METADATA", "entry_points.txt")).decode()
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    assert re.search(r"^License(-Expression)?: Apache-2.0$", metadata, re.MULTILINE)
    assert "Requires-Python: >=3.10" in metadata
    assert "Requires-Dist: torch>=2.6" in metadata
    assert 'Requires-Dist: pytest; extra == "tests"' in metadata
    assert points.split() == ["[console_scripts]", "ibkd", "=", "ibkd_mm.cli:main"]
    assert len(licences) == 1


def test_a_config_of_another_project_inherits_from_an_installed_wheel(installed, tmp_path):
    (tmp_path / "mine.py").write_text("_base_ = ['ibkd_mm::_base_/datasets/shapes_instance.py']\n")
    code = (
        "import ibkd_mm.register_all\n"
        "from mmengine.config import Config\n"
        "print(ibkd_mm.__file__)\n"
        "print(Config.fromfile('mine.py').train_dataloader.dataset.type)\n"
    )
    done = _run(installed, tmp_path, sys.executable, "-c", code)
    assert done.stdout.splitlines()[-2:] == [
        str(installed / "ibkd_mm" / "__init__.py"),
        "ibkd_mm.ShapesDataset",
    ], done.stderr


def test_the_command_imports_nothing_heavy(installed, tmp_path):
    code = (
        "import sys, ibkd_mm.cli\n"
        "code = ibkd_mm.cli.main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'mmengine'} & set(sys.modules)\n"
        "print(code, ibkd_mm.cli.__file__, sorted(heavy))\n"
    )
    done = _run(installed, tmp_path, sys.executable, "-c", code)
    assert done.stdout.splitlines()[-1] == f"0 {installed}/ibkd_mm/cli/__init__.py []", done.stderr


def test_the_runtime_of_exported_models_imports_neither_torch_nor_openmmlab(installed, tmp_path):
    code = (
        "import sys, ibkd_mm.deploy.runtime\n"
        "heavy = {'torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmrazor'} & set(sys.modules)\n"
        "print(ibkd_mm.deploy.runtime.__file__, sorted(heavy))\n"
    )
    done = _run(installed, tmp_path, sys.executable, "-c", code)
    assert done.stdout == f"{installed}/ibkd_mm/deploy/runtime.py []\n", done.stderr


def test_the_installed_command_works_in_another_folder(installed, tmp_path):
    command = installed / "bin" / "ibkd"
    assert _run(installed, tmp_path, command, "--version").stdout == f"{__version__}\n"
    report = json.loads(_run(installed, tmp_path, command, "doctor", "--json").stdout)
    found = {check["name"]: check["found"] for check in report["checks"]}
    count = sum(1 for _ in (ROOT / "configs").rglob("*.py"))
    assert (report["usable"], found["configs"], found["ibkd_mm"]) == (True, f"{count} files", __version__)
    missing = _run(installed, tmp_path, command, "train", "ibkd_mm::nothing.py")
    assert (missing.returncode, missing.stderr[:18]) == (2, "ibkd train: error:")


def _requirements(name):
    lines = (ROOT / name).read_text().splitlines()
    if name == "Makefile":  # what `make ops` installs to compile with
        lines = re.findall(r"install -q \$\(PINS\) (setuptools .*)", "\n".join(lines))[0].split()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "name", ["requirements/runtime.txt", "requirements/tests.txt", "requirements/deploy.txt", "Makefile"]
)
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_requirement_has_one_pin_that_it_admits(name, python):
    pins = {}
    for pin in _requirements("requirements/constraints.txt"):
        assert re.fullmatch(r"==[^*]+", str(pin.specifier)), f"{pin} is not exact"
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            assert pin.name not in pins, f"{pin.name} is pinned twice for Python {python}"
            pins[pin.name] = str(pin.specifier).removeprefix("==")
    for requirement in _requirements(name):
        assert requirement.specifier.contains(pins[requirement.name]), requirement


def test_configs_are_a_link_in_the_checkout():
    assert (ROOT / "ibkd_mm/.mim/configs").resolve() == ROOT / "configs"


def test_one_version_everywhere():
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
