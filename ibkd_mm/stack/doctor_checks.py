"""The checks of `ibkd doctor`. Each function returns one `Check` and imports what it needs itself."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

OK, WARN, BROKEN = "ok", "warn", "broken"

_PACKAGE = Path(__file__).resolve().parent.parent

# Distribution: verified release, and distributions of upstream that install the same import package.
FORKS = {
    "onedl-mmengine": ("0.10.12", ("mmengine", "mmengine-lite")),
    "onedl-mmcv": ("2.3.6", ("mmcv", "mmcv-lite", "mmcv-full")),
    "onedl-mmdetection": ("3.5.1", ("mmdet",)),
    "onedl-mmsegmentation": ("1.4.2", ("mmsegmentation",)),
}
RAZOR = "mmrazor==1.0.0"
NUMPY = "numpy==2.2.6"
SAFE_TORCH = (2, 6)
_MIN_SHARED_MEMORY = 1 << 30
_MISSING = "not installed"
_ABI_ERRORS = (
    "dtype size changed",
    "multiarray failed to import",
    "_ARRAY_API not found",
    "compiled using NumPy 1.x",
)


class Check(NamedTuple):
    """Result of one check; `fix` is a command line, empty where nothing needs fixing."""

    name: str
    state: str
    found: str
    fix: str = ""


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    """Check that this Python is one of the supported versions."""
    found, fix = ".".join(map(str, version)), "make clean install PYTHON=python{}"
    if version < (3, 10):
        return Check("python", BROKEN, f"{found}; 3.10 or newer is needed", fix.format("3.11"))
    if version >= (3, 14):
        return Check("python", WARN, f"{found}, untried; 3.10 to 3.13 are supported", fix.format("3.13"))
    return Check("python", OK, found)


def check_torch() -> Check:
    """Check that torch imports and is new enough to load a checkpoint without running code from it."""
    try:
        version = str(importlib.import_module("torch").__version__)
    except Exception as error:
        return Check("torch", BROKEN, one_line(error), f'{_pip()} install --force-reinstall "torch>=2.6"')
    if tuple(int(part) for part in version.split(".")[:2]) < SAFE_TORCH:
        found = f"{version}: before 2.6 a checkpoint can run code while it is being loaded"
        return Check("torch", BROKEN, found, f'{_pip()} install "torch>=2.6"')
    return Check("torch", OK, version)


def check_torchvision() -> Check:
    """Check that torchvision imports if it is installed: others fail with it although nothing needs it."""
    if _version("torchvision") is None:
        return Check("torchvision", OK, "not installed, and not needed")
    try:
        return Check("torchvision", OK, str(importlib.import_module("torchvision").__version__))
    except Exception as error:
        return Check("torchvision", WARN, one_line(error), f"{_pip()} uninstall -y torchvision")


def check_gpu() -> Check:
    """Check that torch sees the GPU, if the machine has one."""
    try:
        torch = importlib.import_module("torch")
    except Exception:
        return Check("gpu", WARN, "unknown, as torch does not import", "torch first")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("gpu", OK, ", ".join(names))
    if not shutil.which("nvidia-smi"):
        return Check("gpu", OK, "none: everything runs on the CPU")
    driver = f"there is an NVIDIA driver, and torch {torch.__version__}"
    if torch.version.cuda is None:
        fix = f"{_pip()} uninstall -y torch && {_pip()} install torch"
        return Check("gpu", WARN, f"{driver} is built without CUDA", fix)
    fix = "nvidia-smi  # the driver must be new enough for that CUDA"
    return Check("gpu", WARN, f"{driver} (CUDA {torch.version.cuda}) sees no GPU", fix)


def check_numpy() -> Check:
    """Check that numpy imports, is new enough and shares memory with torch."""
    fix = f"{_pip()} install --force-reinstall {NUMPY}"
    try:
        numpy = importlib.import_module("numpy")
        version = str(numpy.__version__)
        if int(version.split(".")[0]) < 2:
            return Check("numpy", BROKEN, f"{version}; mmseg needs 2 or newer", fix)
        with contextlib.suppress(ImportError):  # check_torch reports a torch that does not import
            importlib.import_module("torch").from_numpy(numpy.zeros(1))
    except Exception as error:
        return Check("numpy", BROKEN, one_line(error), fix)
    return Check("numpy", OK, version)


def check_opencv() -> Check:
    """Check that cv2 imports and is whole: two distributions install it, the headless one needs no libGL."""
    versions = {name: _version(name) for name in ("opencv-python", "opencv-python-headless")}
    pin = next((f"=={version}" for version in versions.values() if version), "")
    fix = f"{_pip()} install --force-reinstall --no-deps opencv-python-headless{pin}"
    try:
        cv2 = importlib.import_module("cv2")
        cv2.flip(importlib.import_module("numpy").eye(2), 0)
    except Exception as error:
        return Check("opencv", BROKEN, one_line(error), fix)
    if all(versions.values()) and len(set(versions.values())) > 1:
        found = " and ".join(f"{name} {version}" for name, version in versions.items())
        return Check("opencv", WARN, f"{found} have overwritten each other's files", fix)
    is_headless = getattr(getattr(cv2, "version", None), "headless", False)
    return Check("opencv", OK, f"{cv2.__version__}{' headless' if is_headless else ''}")


def check_compiled(name: str, module: str) -> Check:
    """Check that a package with compiled parts imports; one built for another numpy fails here."""
    try:
        importlib.import_module(module)
    except Exception as error:
        found = one_line(error)
        if any(text in found for text in _ABI_ERRORS):
            found = f"built for another numpy than {_version('numpy')} ({found})"
        fix = f"{_pip()} install --force-reinstall --no-cache-dir --no-deps {name}"
        return Check(name, BROKEN, found, fix)
    return Check(name, OK, _version(name) or "version unknown")


def check_fork(name: str, verified: str, upstream: Sequence[str]) -> Check:
    """Check that the maintained fork is installed, without upstream's package, in the verified series."""
    version = _version(name)
    conflicts = [other for other in upstream if _version(other)]
    if conflicts:
        others = " and ".join(f"{other} {_version(other)}" for other in conflicts)
        found = f"{others} {'beside it: they share their files' if version else 'in its place'}"
        removed = " ".join([*conflicts, *([name] if version else [])])
        fix = f"{_pip()} uninstall -y {removed} && {_pip()} install --no-deps {name}=={verified}"
        return Check(name, BROKEN, found, fix)
    fix = f"{_pip()} install {name}=={verified}"
    if version is None:
        return Check(name, BROKEN, _MISSING, fix)
    if version.split(".")[:2] != verified.split(".")[:2]:
        return Check(name, WARN, f"{version} is untried; {verified} is verified", fix)
    return Check(name, OK, version)


def check_razor() -> Check:
    """Check that mmrazor's distillation part imports as `ibkd_mm.stack` imports it."""
    fix = f"{_pip()} install {RAZOR} joblib"
    version = _version("mmrazor")
    if version is None:
        return Check("mmrazor", BROKEN, _MISSING, fix)
    try:
        importlib.import_module("ibkd_mm.stack").prepare()
    except Exception as error:
        if "mmrazor" in str(error):
            return Check("mmrazor", BROKEN, f"{version}; {one_line(error)}", fix)
        return Check("mmrazor", WARN, f"{version}, untried, as ibkd_mm does not import", "ibkd_mm first")
    return Check("mmrazor", OK, f"{version}, its distillation part imports")


def check_package() -> Check:
    """Check that everything that ibkd_mm registers imports, and mmdet's models."""
    try:
        importlib.import_module("ibkd_mm.register_all")
        importlib.import_module("mmdet.models")
    except Exception as error:
        return Check("ibkd_mm", BROKEN, one_line(error), reinstall_command())
    return Check("ibkd_mm", OK, str(importlib.import_module("ibkd_mm").__version__))


def check_ops() -> Check:
    """Check which operators run: mmcv's compiled ones, torchvision's or the portable ones."""
    reinstall = f"{_pip()} install --force-reinstall --no-deps onedl-mmcv=={FORKS['onedl-mmcv'][0]}"
    rebuild = "make ops" if (_PACKAGE.parent / "Makefile").is_file() else reinstall
    spec = importlib.util.find_spec("mmcv")
    folders = list(spec.submodule_search_locations or []) if spec else []
    libraries = [file for folder in folders for file in Path(folder).glob("_ext.*")]
    for file in [file for file in libraries if file.suffix in (".so", ".pyd")][:1]:
        try:
            _load_compiled(file)
        except Exception as error:
            return Check(
                "ops", WARN, f"compiled for another torch, and so not used ({one_line(error)})", rebuild
            )
    try:
        importlib.import_module("ibkd_mm.stack").prepare()
        backend = importlib.import_module("ibkd_mm.stack.ops").backend()
    except Exception as error:
        return Check("ops", BROKEN, f"unknown: {one_line(error)}", reinstall_command())
    if backend != "compiled":
        return Check("ops", OK, f"{backend}; `make ops` builds the compiled ones, faster on a GPU")
    built_for = importlib.import_module("mmcv.ops").get_compiling_cuda_version()
    if built_for == "not available" and importlib.import_module("torch").cuda.is_available():
        return Check("ops", WARN, "compiled without CUDA, and torch sees a GPU", rebuild)
    return Check("ops", OK, backend)


def check_configs(package: Path = _PACKAGE) -> Check:
    """Check that the configs are inside the package, where `_base_ = ['ibkd_mm::...']` finds them."""
    configs = package / ".mim" / "configs"
    if count := sum(1 for _ in configs.rglob("*.py")):
        return Check("configs", OK, f"{count} files")
    is_checkout = (package.parent / "Makefile").is_file()
    restore = "git -c core.symlinks=true checkout -- ibkd_mm/.mim/configs"
    fix = restore if is_checkout else reinstall_command(package)
    return Check("configs", BROKEN, f"no config under {configs}", fix)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Check that /dev/shm has room for the batches of several workers; a container has only 64 MiB."""
    if not folder.is_dir():
        return Check("shared memory", OK, "not limited")
    total = shutil.disk_usage(folder).total
    found = f"{total / (1 << 20):.0f} MiB"
    if total < _MIN_SHARED_MEMORY:
        fix = "docker run --shm-size=8g ...  # or train with --cfg-options train_dataloader.num_workers=0"
        return Check("shared memory", WARN, f"{found}: too little for data loading with several workers", fix)
    return Check("shared memory", OK, found)


def one_line(error: Exception) -> str:
    """Return type and message of an error in at most 240 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 240 else text[:237] + "..."


def reinstall_command(package: Path = _PACKAGE) -> str:
    """Return the command that installs ibkd_mm again, from a checkout or as it was installed."""
    if (package.parent / "Makefile").is_file():
        return "make clean install"
    return f"{_pip()} install --force-reinstall ibkd_mm  # from the file or folder that you installed it from"


def _load_compiled(file: Path) -> None:
    importlib.import_module("torch")  # the operators link against its libraries
    spec = importlib.util.spec_from_file_location("mmcv._ext", file)
    assert spec is not None
    importlib.util.module_from_spec(spec)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip() -> str:
    """Return the command for this Python's pip: `pip` only if that one is first on the path."""
    pip = shutil.which("pip")
    folder = Path(sys.executable).parent
    return "pip" if pip and Path(pip).parent == folder else f"{sys.executable} -m pip"
