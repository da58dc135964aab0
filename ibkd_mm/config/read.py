"""Config files: found by path or by package, and read; whatever is wrong with one is a UserError."""

from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.stack.frames import place_in_config

_SUFFIXES = (".py", ".json", ".yaml", ".yml")


def read_config(path: str | Path) -> Config:
    """Read a config from a file, or from one inside a package: `mmdet::folder/name.py`."""
    file = find_config(str(path))
    try:
        return Config.fromfile(str(file))
    except Exception as error:  # a config is a program: whatever it raises is its author's to mend
        raise UserError(_why_unreadable(file, error)) from error


def find_config(path: str) -> Path:
    """Find the file that a path or `package::path` names."""
    if "::" in path:
        return _find_in_package(*path.split("::", 1))
    file = Path(path).expanduser()
    if file.suffix not in _SUFFIXES and not file.is_file() and file.with_name(f"{file.name}.py").is_file():
        return file.with_name(f"{file.name}.py")
    if file.is_dir():
        raise UserError(f"Expected a config file, found the folder {file}.")
    if not file.is_file():
        beside = [found.name for found in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise UserError(f"There is no config {file}.{did_you_mean(file.name, beside)}")
    if file.suffix not in _SUFFIXES:
        raise UserError(f"Expected a config ending in {', '.join(_SUFFIXES)}, found {file}.")
    return file


def _find_in_package(package: str, path: str) -> Path:
    """Look below the package's `.mim/configs`; unlike mmengine's own look-up, this one never calls pip."""
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        known = ["mmdet", "mmseg", "mmrazor", "ibkd_mm"]
        raise UserError(
            f"No package '{package}' is installed, asked for by {package}::{path}."
            f"{did_you_mean(package, known)}"
        )
    folder = Path(spec.origin).parent / ".mim" / "configs"
    name = path if path.endswith(_SUFFIXES) else f"{path}.py"
    if (folder / name).is_file():
        return folder / name
    known = [found.relative_to(folder).as_posix() for found in folder.rglob("*.py")]
    raise UserError(
        f"Package {package} has no config {path}.{did_you_mean(name, known)} They lie in {folder}."
    )


def _why_unreadable(file: Path, error: Exception) -> str:
    faulty, line = place_in_config(error)
    where = f"{faulty or file}, line {line}," if line else f"{faulty or file}"
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, FileNotFoundError):
        what = f"a file that it inherits does not exist: {error.filename or error}"
    elif isinstance(error, SyntaxError):
        what = f"syntax error: {error.msg}"
    elif isinstance(error, ImportError) and "custom modules" in str(error):
        what = f"its custom_imports fail: {error.__cause__ or error}"
    elif "does not support to load" in str(error):
        what = f"{error} Known are mmdet::, mmseg::, mmrazor:: and ibkd_mm::."
    return f"The config {where} cannot be read: {what}"
