"""`ibkd doctor`: what of the installation works, what does not, and the command that fixes it.

It runs where the packages below are broken, so it imports only the standard library at the top.
"""

from __future__ import annotations  # so that a Python too old for the rest can say that it is

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

OK, WARN, BROKEN = "ok", "warn", "broken"

_PACKAGE = Path(__file__).resolve().parent.parent

# Distribution, the release that was verified, and what upstream calls the same import package.
_STACK = (
    ("onedl-mmengine", "0.10.12", ("mmengine", "mmengine-lite")),
    ("onedl-mmcv", "2.3.6", ("mmcv", "mmcv-lite", "mmcv-full")),
    ("onedl-mmdetection", "3.5.1", ("mmdet",)),
    ("onedl-mmsegmentation", "1.4.2", ("mmsegmentation",)),
)
_RAZOR = "mmrazor==1.0.0"
_NUMPY = "numpy==2.2.6"
_SAFE_TORCH = (2, 6)
_SHARED_MEMORY = 1 << 30
_ABSENT = "not installed"
_DEPENDENT = ("ibkd_mm", "ops")
_LIBRARIES = (".so", ".pyd")

_ABI_COMPLAINTS = (
    "dtype size changed",
    "multiarray failed to import",
    "_ARRAY_API not found",
    "compiled using NumPy 1.x",
)


class Check(NamedTuple):
    """One thing that was looked at; `mend` is the line that mends it, empty where nothing needs mending."""

    name: str
    state: str
    found: str
    mend: str = ""


def examine() -> list[Check]:
    """Look at everything; a check that fails in a way not foreseen is itself reported as broken."""
    checks: list[Check] = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for name, look in _looks():
            try:
                checks.append(look())
            except Exception as error:
                checks.append(Check(name, BROKEN, _line(error), _reinstall()))
    return _with_causes(checks)


class Diagnosis(NamedTuple):
    """All checks of an installation."""

    checks: list[Check]
    as_json: bool

    @property
    def exit_code(self) -> int:
        """1 if the installation is unusable, else 0."""
        return int(any(check.state == BROKEN for check in self.checks))

    def __str__(self) -> str:
        if not self.as_json:
            return _text(self.checks)
        checks = [check._asdict() for check in self.checks]
        return json.dumps({"usable": not self.exit_code, "checks": checks}, indent=2)


def diagnose(*, as_json: bool = False) -> Diagnosis:
    """Examine the installation."""
    return Diagnosis(examine(), as_json)


def _looks() -> list[tuple[str, Callable[[], Check]]]:
    stack = [(row[0], lambda row=row: check_distribution(*row)) for row in _STACK]
    compiled = [
        (name, lambda row=(name, module): check_compiled(*row))
        for name, module in (
            ("scipy", "scipy.optimize"),
            ("pycocotools", "pycocotools.mask"),
            ("faster-coco-eval", "faster_coco_eval"),
        )
    ]
    return [
        ("python", check_python),
        ("torch", check_torch),
        ("torchvision", check_torchvision),
        ("gpu", check_gpu),
        ("numpy", check_numpy),
        ("opencv", check_opencv),
        *compiled,
        *stack,
        ("mmrazor", check_razor),
        ("ibkd_mm", check_package),
        ("ops", check_ops),
        ("configs", check_configs),
        ("shared memory", check_shared_memory),
    ]


def _with_causes(checks: list[Check]) -> list[Check]:
    """What imports other packages breaks with them: send the reader to the first broken one of those."""
    cause = next((check.name for check in checks if check.state == BROKEN), "")
    return [
        check._replace(mend=f"{cause} first")
        if check.name in _DEPENDENT and check.state == BROKEN and check.name != cause
        else check
        for check in checks
    ]


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    """Python 3.10 is the oldest that works; what came after 3.13 is untried."""
    found = ".".join(map(str, version))
    if version < (3, 10):
        mend = "make clean install PYTHON=python3.11"
        return Check("python", BROKEN, f"{found}; 3.10 or newer is needed", mend)
    if version >= (3, 14):
        mend = "make clean install PYTHON=python3.13"
        return Check("python", WARN, f"{found}, untried; 3.10 to 3.13 are supported", mend)
    return Check("python", OK, found)


def check_torch() -> Check:
    """Torch must import, and be new enough to load a checkpoint without running code from it."""
    try:
        version = str(importlib.import_module("torch").__version__)
    except Exception as error:
        return Check("torch", BROKEN, _line(error), f'{_pip()} install --force-reinstall "torch>=2.6"')
    if tuple(int(part) for part in version.split(".")[:2]) < _SAFE_TORCH:
        found = f"{version}: before 2.6 a checkpoint can run code while it is being loaded"
        return Check("torch", BROKEN, found, f'{_pip()} install "torch>=2.6"')
    return Check("torch", OK, version)


def check_torchvision() -> Check:
    """Torchvision is not needed, but one that fails to import takes others down with it."""
    if _version("torchvision") is None:
        return Check("torchvision", OK, "not installed, and not needed")
    try:
        module = importlib.import_module("torchvision")
    except Exception as error:
        return Check("torchvision", WARN, _line(error), f"{_pip()} uninstall -y torchvision")
    return Check("torchvision", OK, str(module.__version__))


def check_gpu() -> Check:
    """No GPU is fine; one that torch does not see is not."""
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
        mend = f"{_pip()} uninstall -y torch && {_pip()} install torch"
        return Check("gpu", WARN, f"{driver} is built without CUDA", mend)
    mend = "nvidia-smi  # the driver must be new enough for that CUDA"
    return Check("gpu", WARN, f"{driver} (CUDA {torch.version.cuda}) sees no GPU", mend)


def check_numpy() -> Check:
    """Numpy must import, and torch must be able to share memory with it."""
    mend = f"{_pip()} install --force-reinstall {_NUMPY}"
    try:
        numpy = importlib.import_module("numpy")
        version = str(numpy.__version__)
        if int(version.split(".")[0]) < 2:
            return Check("numpy", BROKEN, f"{version}; mmseg needs 2 or newer", mend)
        with contextlib.suppress(ImportError):  # a torch that does not import is told elsewhere
            importlib.import_module("torch").from_numpy(numpy.zeros(1))
    except Exception as error:
        return Check("numpy", BROKEN, _line(error), mend)
    return Check("numpy", OK, version)


def check_opencv() -> Check:
    """Two variants share the folder cv2 and the last one installed runs; the headless one needs no libGL."""
    both = {name: _version(name) for name in ("opencv-python", "opencv-python-headless")}
    pin = next((f"=={version}" for version in both.values() if version), "")
    mend = f"{_pip()} install --force-reinstall --no-deps opencv-python-headless{pin}"
    try:
        cv2 = importlib.import_module("cv2")
        cv2.flip(importlib.import_module("numpy").eye(2), 0)
    except Exception as error:
        return Check("opencv", BROKEN, _line(error), mend)
    if all(both.values()) and len(set(both.values())) > 1:
        found = " and ".join(f"{name} {version}" for name, version in both.items())
        return Check("opencv", WARN, f"{found} have overwritten each other's files", mend)
    return Check("opencv", OK, f"{cv2.__version__}{' headless' if _headless(cv2) else ''}")


def check_compiled(name: str, module: str) -> Check:
    """Import a package with compiled parts; numpy of another ABI than it was built with shows here."""
    mend = f"{_pip()} install --force-reinstall --no-cache-dir --no-deps {name}"
    try:
        importlib.import_module(module)
    except Exception as error:
        found = _line(error)
        if any(complaint in found for complaint in _ABI_COMPLAINTS):
            found = f"built for another numpy than {_version('numpy')} ({found})"
        return Check(name, BROKEN, found, mend)
    return Check(name, OK, _version(name) or "version unknown")


def check_distribution(name: str, verified: str, upstream: Sequence[str]) -> Check:
    """The maintained fork must be there, alone, and of the release series that was verified."""
    version = _version(name)
    intruders = [other for other in upstream if _version(other)]
    if intruders:
        beside = " and ".join(f"{other} {_version(other)}" for other in intruders)
        found = f"{beside} {'beside it: they share their files' if version else 'in its place'}"
        gone = " ".join([*intruders, *([name] if version else [])])
        mend = f"{_pip()} uninstall -y {gone} && {_pip()} install --no-deps {name}=={verified}"
        return Check(name, BROKEN, found, mend)
    mend = f"{_pip()} install {name}=={verified}"
    if version is None:
        return Check(name, BROKEN, _ABSENT, mend)
    if version.split(".")[:2] != verified.split(".")[:2]:
        return Check(name, WARN, f"{version} is untried; {verified} is verified", mend)
    return Check(name, OK, version)


def check_razor() -> Check:
    """mmrazor's distillation part must import through our seam."""
    mend = f"{_pip()} install {_RAZOR} joblib"
    version = _version("mmrazor")
    if version is None:
        return Check("mmrazor", BROKEN, _ABSENT, mend)
    try:
        importlib.import_module("ibkd_mm")
    except Exception as error:
        if "mmrazor" in str(error):
            return Check("mmrazor", BROKEN, f"{version}; {_line(error)}", mend)
        return Check("mmrazor", WARN, f"{version}, untried, as ibkd_mm does not import", "ibkd_mm first")
    return Check("mmrazor", OK, f"{version}, its distillation part imports")


def check_package() -> Check:
    """The whole of it: ibkd_mm with everything that it registers, and mmdet's models."""
    try:
        package = importlib.import_module("ibkd_mm")
        importlib.import_module("mmdet.models")
    except Exception as error:
        return Check("ibkd_mm", BROKEN, _line(error), _reinstall())
    return Check("ibkd_mm", OK, str(package.__version__))


def check_ops() -> Check:
    """Which operators run: mmcv's compiled ones, torchvision's kernels, or the portable ones."""
    spec = importlib.util.find_spec("mmcv")
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [file for place in places for file in Path(place).glob("_ext.*") if file.suffix in _LIBRARIES]
    if files:
        try:
            _load_compiled(files[0])
        except Exception as error:
            found = f"compiled for another torch, and so not used ({_line(error)})"
            return Check("ops", WARN, found, _rebuild_ops())
    try:
        importlib.import_module("ibkd_mm")
        backend = importlib.import_module("ibkd_mm.stack.ops").backend()
    except Exception as error:
        return Check("ops", BROKEN, f"unknown: {_line(error)}", _reinstall())
    if backend == "compiled" and _without_cuda():
        return Check("ops", WARN, "compiled without CUDA, and torch sees a GPU", _rebuild_ops())
    faster = "" if backend == "compiled" else "; `make ops` builds the compiled ones, faster on a GPU"
    return Check("ops", OK, f"{backend}{faster}")


def check_configs(package: Path = _PACKAGE) -> Check:
    """The configs travel with the package, for `_base_ = ['ibkd_mm::...']`."""
    configs = package / ".mim" / "configs"
    count = sum(1 for _ in configs.rglob("*.py"))
    if count:
        return Check("configs", OK, f"{count} files")
    if (package.parent / "Makefile").is_file():
        mend = "git -c core.symlinks=true checkout -- ibkd_mm/.mim/configs"
    else:
        mend = _reinstall(package)
    return Check("configs", BROKEN, f"no config under {configs}", mend)


def check_shared_memory(place: Path = Path("/dev/shm")) -> Check:
    """Data loading with several workers passes batches through /dev/shm; a container has 64 MiB of it."""
    if not place.is_dir():
        return Check("shared memory", OK, "not limited")
    total = shutil.disk_usage(place).total
    found = f"{total / (1 << 20):.0f} MiB"
    if total < _SHARED_MEMORY:
        mend = "docker run --shm-size=8g ...  # or train with --cfg-options train_dataloader.num_workers=0"
        return Check("shared memory", WARN, f"{found}: data loading with several workers may die in it", mend)
    return Check("shared memory", OK, found)


def _load_compiled(file: Path) -> None:
    importlib.import_module("torch")  # the operators link against its libraries
    spec = importlib.util.spec_from_file_location("mmcv._ext", file)
    assert spec is not None
    importlib.util.module_from_spec(spec)


def _without_cuda() -> bool:
    """Whether mmcv's operators refuse tensors on a GPU that is here; so they report when built for none."""
    built_for = importlib.import_module("mmcv.ops").get_compiling_cuda_version()
    return built_for == "not available" and importlib.import_module("torch").cuda.is_available()


def _headless(cv2: ModuleType) -> bool:
    return bool(getattr(getattr(cv2, "version", None), "headless", False))


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 240 else text[:237] + "..."


def _pip() -> str:
    """Return how to call this Python's pip: by its short name only where that is the one."""
    pip = shutil.which("pip")
    here = Path(sys.executable).parent
    return "pip" if pip and Path(pip).parent == here else f"{sys.executable} -m pip"


def _reinstall(package: Path = _PACKAGE) -> str:
    if (package.parent / "Makefile").is_file():
        return "make clean install"
    return f"{_pip()} install --force-reinstall ibkd_mm  # from the file or folder that you installed it from"


def _rebuild_ops() -> str:
    if (_PACKAGE.parent / "Makefile").is_file():
        return "make ops"
    name, verified, _ = _STACK[1]
    return f"{_pip()} install --force-reinstall --no-deps {name}=={verified}"


def _text(checks: list[Check]) -> str:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<6}  {check.name:<{width}}  {check.found}")
        if check.mend:
            lines.append(f"{'':<6}  {'':<{width}}  mend: {check.mend}")
    broken = [check.name for check in checks if check.state == BROKEN]
    lines.append(f"unusable: {', '.join(broken)}" if broken else "usable")
    return "\n".join(lines)
