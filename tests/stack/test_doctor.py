"""Each fault that `ibkd doctor` knows is created here, and the command that fixes it is checked."""

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest
from helpers import ROOT

from ibkd_mm.stack import doctor
from ibkd_mm.stack import doctor_checks as checks
from ibkd_mm.stack.doctor_checks import BROKEN, Check

REAL_PIP = checks._pip
HEADLESS = "pip install --force-reinstall --no-deps opencv-python-headless=="


@pytest.fixture(autouse=True)
def _plain_pip(monkeypatch):
    monkeypatch.setattr(checks, "_pip", lambda: "pip")


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A folder that comes first on the path: packages and distributions in it hide the real ones."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _distribution(folder, name, version):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    importlib.invalidate_caches()


def _module(folder, name, text, monkeypatch):
    for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()


def _without(monkeypatch, *missing):
    real = importlib.metadata.version

    def version(name):
        if name in missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_python():
    check = checks.check_python((3, 9, 18))
    assert check == (
        "python",
        "broken",
        "3.9.18; 3.10 or newer is needed",
        "make clean install PYTHON=python3.11",
    )
    assert checks.check_python((3, 10, 0)) == ("python", "ok", "3.10.0", "")
    assert checks.check_python((3, 13, 9)).state == "ok"
    assert checks.check_python((3, 14, 0)).fix == "make clean install PYTHON=python3.13"


def test_nothing_is_broken_here():
    assert [check for check in doctor.diagnose().checks if check.state == BROKEN] == []


@pytest.mark.parametrize("version", ["2.5.1+cu121", "1.13.1", "2.5.0a0+git"])
def test_torch_too_old_for_safe_loading(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=version))
    check = checks.check_torch()
    assert check.state == "broken"
    assert check.fix == 'pip install "torch>=2.6"'
    assert version in check.found


@pytest.mark.parametrize("version", ["2.6.0", "2.13.0+cpu", "3.0.0"])
def test_torch_new_enough(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=version))
    assert checks.check_torch() == ("torch", "ok", version, "")


def test_no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert checks.check_torch().fix == 'pip install --force-reinstall "torch>=2.6"'
    assert checks.check_gpu() == ("gpu", "warn", "unknown, as torch does not import", "torch first")


def test_torchvision_of_another_torch(fakes, monkeypatch):
    _distribution(fakes, "torchvision", "0.21.0")
    _module(
        fakes, "torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", monkeypatch
    )
    check = checks.check_torchvision()
    assert (check.state, check.fix) == ("warn", "pip uninstall -y torchvision")
    assert "torchvision::nms" in check.found


def _torch(cuda, names=()):
    return SimpleNamespace(
        __version__="2.13.0",
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: bool(names),
            device_count=lambda: len(names),
            get_device_name=lambda i: names[i],
        ),
    )


@pytest.mark.parametrize(
    ("torch", "driver", "state", "fix"),
    [
        (_torch(None), None, "ok", ""),
        (_torch("12.8", ["H100", "H100"]), "nvidia-smi", "ok", ""),
        (_torch(None), "nvidia-smi", "warn", "pip uninstall -y torch && pip install torch"),
        (_torch("13.0"), "nvidia-smi", "warn", "nvidia-smi  # the driver must be new enough for that CUDA"),
    ],
)
def test_gpu(monkeypatch, torch, driver, state, fix):
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(checks.shutil, "which", lambda _: driver)
    check = checks.check_gpu()
    assert (check.state, check.fix) == (state, fix)
    if state == "ok":
        assert check.found == ("H100, H100" if driver else "none: everything runs on the CPU")


def test_old_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", SimpleNamespace(__version__="1.26.4"))
    check = checks.check_numpy()
    assert check == (
        "numpy",
        "broken",
        "1.26.4; mmseg needs 2 or newer",
        "pip install --force-reinstall numpy==2.2.6",
    )


def test_numpy_that_torch_cannot_read(monkeypatch):
    def from_numpy(_):
        raise RuntimeError("Numpy is not available")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=from_numpy))
    check = checks.check_numpy()
    assert check.found == "RuntimeError: Numpy is not available"
    assert check.fix == "pip install --force-reinstall numpy==2.2.6"


def test_opencv_without_libgl(fakes, monkeypatch):
    _distribution(fakes, "opencv-python", "4.12.0.88")
    _module(fakes, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')", monkeypatch)
    check = checks.check_opencv()
    assert check.state == "broken"
    assert check.found == "ImportError: libGL.so.1: cannot open shared object file"
    assert check.fix == HEADLESS + "4.12.0.88"


def test_two_opencvs_of_different_versions(fakes):
    _distribution(fakes, "opencv-python", "4.12.0.88")
    _distribution(fakes, "opencv-python-headless", "4.11.0.86")
    check = checks.check_opencv()
    assert (check.state, check.fix) == ("warn", HEADLESS + "4.12.0.88")
    assert "opencv-python 4.12.0.88 and opencv-python-headless 4.11.0.86" in check.found


def test_two_opencvs_of_one_version_are_fine(fakes):
    _distribution(fakes, "opencv-python", "4.12.0.88")
    _distribution(fakes, "opencv-python-headless", "4.12.0.88")
    assert checks.check_opencv().state == "ok"


def test_pycocotools_of_another_numpy(fakes, monkeypatch):
    complaint = "numpy.dtype size changed, may indicate binary incompatibility. Expected 96, got 88"
    _module(fakes, "pycocotools", f"raise ValueError({complaint!r})", monkeypatch)
    check = checks.check_compiled("pycocotools", "pycocotools.mask")
    assert check.state == "broken"
    assert check.found.startswith("built for another numpy than 2.")
    assert check.fix == "pip install --force-reinstall --no-cache-dir --no-deps pycocotools"


def test_no_pycocotools(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pycocotools")]:
        monkeypatch.setitem(sys.modules, name, None)
    check = checks.check_compiled("pycocotools", "pycocotools.mask")
    assert check.state == "broken"
    assert "another numpy" not in check.found


@pytest.mark.parametrize(
    ("name", "upstream", "verified"),
    [
        ("onedl-mmengine", "mmengine", "0.10.12"),
        ("onedl-mmcv", "mmcv-lite", "2.3.6"),
        ("onedl-mmcv", "mmcv", "2.3.6"),
        ("onedl-mmdetection", "mmdet", "3.5.1"),
        ("onedl-mmsegmentation", "mmsegmentation", "1.4.2"),
    ],
)
def test_upstream_beside_the_fork(fakes, name, upstream, verified):
    _distribution(fakes, upstream, "2.1.0")
    assert checks.FORKS[name][0] == verified
    check = checks.check_fork(name, *checks.FORKS[name])
    assert check.state == "broken"
    assert check.found == f"{upstream} 2.1.0 beside it: they share their files"
    assert check.fix == f"pip uninstall -y {upstream} {name} && pip install --no-deps {name}=={verified}"


def test_upstream_in_place_of_the_fork(fakes, monkeypatch):
    _distribution(fakes, "mmcv", "2.1.0")
    _without(monkeypatch, "onedl-mmcv")
    check = checks.check_fork("onedl-mmcv", "2.3.6", ("mmcv",))
    assert check.found == "mmcv 2.1.0 in its place"
    assert check.fix == "pip uninstall -y mmcv && pip install --no-deps onedl-mmcv==2.3.6"


def test_missing_and_untried_distributions(fakes, monkeypatch):
    _distribution(fakes, "onedl-mmcv", "2.4.0")
    check = checks.check_fork("onedl-mmcv", "2.3.6", ())
    assert (check.state, check.fix) == ("warn", "pip install onedl-mmcv==2.3.6")
    _without(monkeypatch, "onedl-mmcv")
    check = checks.check_fork("onedl-mmcv", "2.3.6", ())
    assert check == ("onedl-mmcv", "broken", "not installed", "pip install onedl-mmcv==2.3.6")


def test_razor(monkeypatch):
    assert checks.check_razor() == ("mmrazor", "ok", "1.0.0, its distillation part imports", "")
    _without(monkeypatch, "mmrazor")
    assert checks.check_razor() == ("mmrazor", "broken", "not installed", "pip install mmrazor==1.0.0 joblib")


@pytest.mark.parametrize(
    ("text", "state", "fix"),
    [
        ("mmrazor's distillation part is not usable", "broken", "pip install mmrazor==1.0.0 joblib"),
        ("No module named 'cv2'", "warn", "ibkd_mm first"),
    ],
)
def test_razor_is_blamed_only_for_what_it_did(fakes, monkeypatch, text, state, fix):
    _module(fakes, "ibkd_mm", f"raise ImportError({text!r})", monkeypatch)
    check = checks.check_razor()
    assert (check.state, check.fix) == (state, fix)
    assert checks.check_package().found == f"ImportError: {text}"
    assert checks.check_package().fix == "make clean install"


def test_ops_compiled_for_another_torch(tmp_path, monkeypatch):
    import mmcv

    (tmp_path / "_ext.cpython-311-x86_64-linux-gnu.so").write_bytes(b"not a library")
    spec = ModuleSpec("mmcv", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(mmcv, "__spec__", spec)
    check = checks.check_ops()
    assert check.state == "warn"
    assert check.found.startswith("compiled for another torch, and so not used (ImportError: ")
    assert check.fix == "make ops"
    monkeypatch.setattr(checks, "_PACKAGE", tmp_path / "site-packages" / "ibkd_mm")
    assert checks.check_ops().fix == "pip install --force-reinstall --no-deps onedl-mmcv==2.3.6"


@pytest.mark.parametrize("backend", ["compiled", "torchvision", "portable"])
def test_ops_backend(monkeypatch, backend):
    monkeypatch.setattr(checks, "_load_compiled", lambda _: None)
    monkeypatch.setattr("ibkd_mm.stack.ops.backend", lambda: backend)
    check = checks.check_ops()
    assert check.state == "ok"
    assert re.match(rf"{backend}($|; `make ops`)", check.found)
    assert ("make ops" in check.found) == (backend != "compiled")


@pytest.mark.parametrize(
    ("built_for", "gpu", "state", "fix"),
    [
        ("not available", True, "warn", "make ops"),
        ("not available", False, "ok", ""),
        ("12.8", True, "ok", ""),
    ],
)
def test_ops_compiled_without_cuda_where_there_is_a_gpu(monkeypatch, built_for, gpu, state, fix):
    monkeypatch.setattr("ibkd_mm.stack.ops.backend", lambda: "compiled")
    monkeypatch.setattr("mmcv.ops.get_compiling_cuda_version", lambda: built_for)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    check = checks.check_ops()
    assert (check.state, check.fix) == (state, fix)


def test_configs(tmp_path):
    real = sum(1 for _ in (ROOT / "configs").rglob("*.py"))
    assert checks.check_configs() == ("configs", "ok", f"{real} files", "")
    package = tmp_path / "ibkd_mm"
    package.mkdir()
    assert checks.check_configs(package).fix.startswith("pip install --force-reinstall ibkd_mm")
    (tmp_path / "Makefile").touch()
    check = checks.check_configs(package)
    assert (check.state, check.fix) == (
        "broken",
        "git -c core.symlinks=true checkout -- ibkd_mm/.mim/configs",
    )


def test_shared_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(total=64 << 20))
    check = checks.check_shared_memory(tmp_path)
    assert (check.state, check.found.split(":")[0]) == ("warn", "64 MiB")
    assert check.fix.startswith("docker run --shm-size=8g")
    assert checks.check_shared_memory(tmp_path / "none").state == "ok"


def test_one_fault_hides_no_other(monkeypatch):
    def fails():
        raise KeyError("not foreseen")

    names = [check.name for check in doctor.diagnose().checks]
    monkeypatch.setattr(checks, "check_numpy", fails)
    by_name = {check.name: check for check in doctor.diagnose().checks}
    assert list(by_name) == names
    assert by_name["numpy"] == ("numpy", "broken", "KeyError: 'not foreseen'", "make clean install")


def test_what_depends_on_something_broken_points_there(monkeypatch):
    def broken(name):
        return lambda: Check(name, BROKEN, "gone", f"fix {name}")

    for name, function in (("opencv", "check_opencv"), ("ibkd_mm", "check_package"), ("ops", "check_ops")):
        monkeypatch.setattr(checks, function, broken(name))
    fixes = {check.name: check.fix for check in doctor.diagnose().checks}
    assert (fixes["opencv"], fixes["ibkd_mm"], fixes["ops"]) == (
        "fix opencv",
        "opencv first",
        "opencv first",
    )


def test_text_and_exit_code():
    usable = doctor.Diagnosis([Check("a", "ok", "1"), Check("bc", "warn", "2", "x")])
    assert str(usable) == "ok      a   1\nwarn    bc  2\n            fix: x\nusable"
    assert usable.exit_code == 0
    broken = doctor.Diagnosis([Check("a", "broken", "1", "x")])
    assert str(broken).endswith("unusable: a")
    assert broken.exit_code == 1


def test_only_the_standard_library_at_import():
    code = (
        "import sys; before = set(sys.modules); import ibkd_mm.stack.doctor;"
        "names = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(names - set(sys.stdlib_module_names)))"
    )
    assert _python(code).stdout == "['ibkd_mm']\n"


def _python(code, *folders):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True
    )


def _command(folder, *arguments):
    return _python(f"import sys; from ibkd_mm.cli import main; sys.exit(main({list(arguments)}))", folder)


FAULTS = [
    ("torch", "OSError", "libcudart.so.12: cannot open shared object file"),
    ("mmengine", "ModuleNotFoundError", "No module named 'mmengine'"),
    ("mmcv", "AttributeError", "module 'torch' has no attribute 'x'"),
    ("cv2", "ImportError", "libGL.so.1: cannot open\nshared object file"),
]


@pytest.mark.parametrize(("package", "error", "text"), FAULTS)
def test_a_broken_package_leaves_the_doctor_working_and_train_points_to_it(tmp_path, package, error, text):
    (tmp_path / f"{package}.py").write_text(f"raise {error}({text!r})")
    (tmp_path / "faster_coco_eval.py").write_text("print('not JSON')")
    found = f"{error}: {' '.join(text.split())}"
    shown = _command(tmp_path, "doctor", "--json")
    report = json.loads(shown.stdout)
    by_name = {check["name"]: check for check in report["checks"]}
    assert (shown.returncode, report["usable"]) == (1, False)
    if package in ("torch", "cv2"):
        name = {"cv2": "opencv"}.get(package, package)
        assert (by_name[name]["state"], by_name[name]["found"]) == ("broken", found)
        assert by_name["ibkd_mm"]["fix"] == by_name["ops"]["fix"] == f"{name} first"
    else:
        assert (by_name["ibkd_mm"]["state"], by_name["ibkd_mm"]["found"]) == ("broken", found)
    assert by_name["configs"]["state"] == "ok"
    train = _command(tmp_path, "train", str(ROOT / "configs/mask_rcnn/mask_rcnn_r18_fpn_shapes.py"))
    assert train.returncode == 1
    assert train.stderr.splitlines() == [
        f"ibkd train: error: {found}",
        "`ibkd doctor` shows what is wrong with the installation, and the fix.",
    ]


def test_pip_by_its_short_name_only_where_that_is_the_one(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/env/bin/python")
    monkeypatch.setattr(checks.shutil, "which", lambda _: "/env/bin/pip")
    assert REAL_PIP() == "pip"
    monkeypatch.setattr(checks.shutil, "which", lambda _: "/usr/bin/pip")
    assert REAL_PIP() == "/env/bin/python -m pip"


def test_versions_are_those_of_the_requirements():
    pins = (ROOT / "requirements/constraints.txt").read_text().splitlines()
    wanted = (ROOT / "requirements/runtime.txt").read_text()
    for name, (verified, _) in checks.FORKS.items():
        assert f"{name}=={verified}" in pins
        assert f"{name}>={verified},<" in wanted
    assert checks.NUMPY in pins
    assert checks.RAZOR in pins
    assert "torch>=" + ".".join(map(str, checks.SAFE_TORCH)) in wanted.splitlines()
