"""The Makefile installs what it needs once and repairs an incomplete .venv; with a fake Python."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT

INPUTS = (
    *(f"requirements/{name}.txt" for name in ("runtime", "tests", "deploy", "constraints")),
    "setup.cfg",
)

RUNTIMES = ("deploy", "benchmark")
APART = ("configs", "distill", "engine", "methods", "offline", "stack", "yolov10")
ALL_TESTS = sorted(
    [
        "pytest " + " ".join(f"--ignore tests/{name}" for name in (*RUNTIMES, *APART)),
        "pytest " + " ".join(f"tests/{name}" for name in RUNTIMES),
        "pytest " + " ".join(f"tests/{name}" for name in APART),
    ]
)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Fake Python that answers the calls of the Makefile and records them.
PYTHON = """#!/bin/sh
[ "$1" = -W ] && shift
: "${VERSION:=3.11}"
case "$1 $2" in
"--version "*) echo "Python $VERSION.0"; exit 0;;
"-c import pip"*) [ -e "${0%/bin/python}/pip" ]; exit;;
"-c import sys; sys.exit(not (3"*)
    exec REAL -c "import sys; sys.version_info = (3, ${VERSION#3.}, 0); exec(sys.argv[1])" "$2";;
"-c import sys, cv2"*) exit "${LIBGL:-0}";;
"-c "*sysconfig*) echo "$HEADERS"; exit 0;;
"-m venv")
    mkdir -p "$3/bin" "$3/lib/python3.11/site-packages"
    touch "$3/pip"
    for name in python pytest ibkd ruff mypy; do cp "$0" "$3/bin/$name"; done;;
"-m pip") [ -z "$FAIL" ] || exit 1;;
esac
echo "${0##*/} $*${MMCV_WITH_OPS:+ MMCV_WITH_OPS=$MMCV_WITH_OPS}" >> "$CALLS"
[ "${0##*/} $1" != "ruff ${LINT:-none}" ]
""".replace("REAL", sys.executable)


def settled(calls: list[str]) -> list[str]:
    """The calls in their order, with those of pytest, which run in parallel, sorted at the end."""
    tests = [call for call in calls if call.startswith("pytest")]
    return [call for call in calls if call not in tests] + sorted(tests)


class Checkout:
    """A folder with the Makefile, its inputs and a fake Python."""

    def __init__(self, folder):
        self.folder = folder / "checkout"
        self.calls_file = folder / "calls"
        (self.folder / "requirements").mkdir(parents=True)
        (self.folder / ".ci").mkdir()
        for name in (*INPUTS, "pyproject.toml", "Makefile", ".ci/run"):
            shutil.copy(ROOT / name, self.folder / name)
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "python3").write_text(PYTHON)
        (self.bin / "python3").chmod(0o755)

    def run(self, *command, **environment):
        """Run a command and return it with the recorded calls of Python."""
        self.calls_file.write_text("")
        keep = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
        env = {**keep, "PATH": f"{self.bin}:{keep['PATH']}", "CALLS": str(self.calls_file), **environment}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True)
        done.calls = settled(self.calls_file.read_text().splitlines())
        return done

    def make(self, *arguments, **environment):
        return self.run("make", *arguments, **environment)

    @property
    def venv(self):
        return self.folder / ".venv"


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


PIP = "python -m pip --disable-pip-version-check install"
INSTALL = [
    "python3 -m venv .venv",
    f"{PIP} -c requirements/constraints.txt -r requirements/runtime.txt -r requirements/tests.txt "
    "-r requirements/deploy.txt",
    f"{PIP} -q --no-build-isolation --no-deps -e .",
]


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("install", []),
        ("test", ALL_TESTS),
        ("quickstart", ["ibkd quickstart"]),
        ("lint", ["ruff check .", "ruff format --check .", "mypy "]),
    ],
)
def test_each_target_installs_first_and_then_runs_only_its_commands(checkout, target, last):
    first = checkout.make(target)
    assert first.returncode == 0, first.stderr
    assert first.calls == INSTALL + last
    assert (checkout.venv / ".ibkd-ready").read_text().strip() == str(checkout.folder)
    assert checkout.make(target).calls == last


def test_without_a_target_it_shows_help(checkout):
    done = checkout.make()
    assert done.calls == []
    for target in ("install", "quickstart", "test", "lint", "ops", "clean", "PYTHON", "TORCH_INDEX"):
        assert target in done.stdout


@pytest.mark.parametrize("changed", [*INPUTS, "pyproject.toml"])
def test_a_changed_requirement_installs_again_in_place(checkout, changed):
    checkout.make("install")
    stamp = (checkout.venv / ".ibkd-ready").stat().st_mtime
    os.utime(checkout.folder / changed, (stamp + 2, stamp + 2))
    assert checkout.make("install").calls == INSTALL[1:]


def test_arguments_reach_the_command(checkout):
    checkout.make("install")
    assert checkout.make("test", "ARGS=tests/stack -k nms").calls == ["pytest tests/stack -k nms"]


def test_another_index_is_looked_in_too(checkout):
    calls = checkout.make("install", "TORCH_INDEX=file:///wheels").calls
    assert "-c requirements/constraints.txt --extra-index-url file:///wheels -r" in calls[1]


def test_opencv_that_needs_libgl_is_replaced(checkout):
    again = f"{PIP} -q -c requirements/constraints.txt --force-reinstall --no-deps opencv-python-headless"
    assert checkout.make("install", LIBGL="1").calls == [*INSTALL[:2], again, INSTALL[2]]


def test_an_interrupted_installation_is_repaired_in_place(checkout):
    broken = checkout.make("install", FAIL="1")
    assert broken.returncode != 0
    assert not (checkout.venv / ".ibkd-ready").exists()
    packages = checkout.venv / "lib/python3.11/site-packages"
    for name, files in (("whole-1.dist-info", ("RECORD", "INSTALLER")), ("half-1.dist-info", ("METADATA",))):
        (packages / name).mkdir()
        for file in files:
            (packages / name / file).touch()
    (packages / "~alf").mkdir()
    repaired = checkout.make("install")
    assert repaired.returncode == 0
    assert repaired.calls == INSTALL[1:]
    assert ".venv is not complete: repairing it" in repaired.stdout
    assert "half-1.dist-info is half installed: removing it" in repaired.stdout
    assert sorted(path.name for path in packages.iterdir()) == ["whole-1.dist-info"]


@pytest.mark.parametrize("missing", ["bin/python", "pip"])
def test_a_venv_that_cannot_run_is_created_again(checkout, missing):
    checkout.make("install")
    (checkout.venv / missing).unlink()
    repaired = checkout.make("test")
    assert repaired.calls == [*INSTALL, *ALL_TESTS]
    assert ".venv has no working Python with pip: creating it again" in repaired.stdout


def test_a_moved_checkout_gets_a_venv_of_its_own(checkout):
    checkout.make("install")
    checkout.folder = checkout.folder.rename(checkout.folder.parent / "elsewhere")
    repaired = checkout.make("install")
    assert repaired.calls == INSTALL
    assert ".venv belongs to another folder: creating it again" in repaired.stdout
    assert checkout.make("install").calls == []


@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_a_python_too_old_or_untried_is_refused(checkout, version):
    done = checkout.make("test", VERSION=version)
    assert done.returncode == 2
    assert done.calls == []
    assert f"Python 3.10 to 3.13 is needed, and 'python3' is Python {version}.0." in done.stderr
    assert "make install PYTHON=python3.13" in done.stderr
    assert not checkout.venv.exists()


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_the_oldest_and_the_newest_python_will_do(checkout, version):
    assert checkout.make("install", VERSION=version).calls == INSTALL


def test_a_missing_python_is_reported(checkout):
    done = checkout.make("test", "PYTHON=python9")
    assert done.returncode == 2
    assert "no 'python9' found. Install Python 3.10 to 3.13, or name yours" in done.stderr


def test_ops_are_compiled_and_checked(checkout, tmp_path):
    (tmp_path / "Python.h").touch()
    checkout.make("install")
    done = checkout.make("ops", "CXX=true", HEADERS=str(tmp_path))
    pins = "-c requirements/constraints.txt"
    assert done.calls == [
        f"{PIP} -q {pins} setuptools wheel ninja psutil",
        f"{PIP} --no-build-isolation --no-cache-dir --force-reinstall --no-deps {pins} onedl-mmcv"
        " MMCV_WITH_OPS=1",
        "ibkd doctor",
    ]
    assert "a quarter of an hour on 2 cores" in done.stdout


def test_ops_without_a_compiler_or_headers_say_so(checkout, tmp_path):
    checkout.make("install")
    done = checkout.make("ops", "CXX=no-such-compiler")
    assert (done.returncode, done.calls) == (2, [])
    assert "no C++ compiler 'no-such-compiler' found. Install g++ or clang++" in done.stderr
    done = checkout.make("ops", "CXX=true", HEADERS=str(tmp_path))
    assert (done.returncode, done.calls) == (2, [])
    assert "no Python.h found" in done.stderr


def test_clean_leaves_what_is_yours(checkout):
    checkout.make("install")
    for name in ("data", "work_dirs", "build", "ibkd_mm/__pycache__"):
        (checkout.folder / name).mkdir(parents=True)
    checkout.make("clean")
    left = {path.name for path in checkout.folder.iterdir()}
    assert {"data", "work_dirs"} <= left
    assert not {"build", ".venv"} & left
    assert not (checkout.folder / "ibkd_mm/__pycache__").exists()


def test_ci_stops_at_the_first_failure(checkout):
    checkout.make("install")
    whole = checkout.run(".ci/run")
    assert (whole.returncode, whole.calls[-1]) == (0, ALL_TESTS[-1])
    failed = checkout.run(".ci/run", LINT="check")
    assert (failed.returncode != 0, failed.calls) == (True, ["ruff check ."])
