"""Find and read config files; raise UserError for a config that is missing or cannot be read."""

from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from ibkd_mm.errors import UserError, did_you_mean
from ibkd_mm.stack.frames import find_config_line

_SUFFIXES = (".py", ".json", ".yaml", ".yml")


def read_config(path: str | Path) -> Config:
    """Read a config from a file, or from one inside a package: `mmdet::folder/name.py`."""
    file = find_config(str(path))
    try:
        return Config.fromfile(str(file))
    except Exception as error:  # a config is a program and may raise anything
        raise UserError(_explain_unreadable(file, error)) from error


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
        siblings = [found.name for found in file.parent.glob("*.py")]
        raise UserError(f"There is no config {file}.{did_you_mean(file.name, siblings)}")
    if file.suffix not in _SUFFIXES:
        raise UserError(f"Expected a config ending in {', '.join(_SUFFIXES)}, found {file}.")
    return file


def _find_in_package(package: str, path: str) -> Path:
    """Find a config in a package's `.mim/configs`, without calling pip as mmengine does."""
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        known = ["mmdet", "mmseg", "mmrazor", "ibkd_mm"]
        raise UserError(
            f"No package '{package}' is installed, which {package}::{path} names."
            f"{did_you_mean(package, known)}"
        )
    folder = Path(spec.origin).parent / ".mim" / "configs"
    name = path if path.endswith(_SUFFIXES) else f"{path}.py"
    if (folder / name).is_file():
        return folder / name
    known = [found.relative_to(folder).as_posix() for found in folder.rglob("*.py")]
    raise UserError(
        f"Package {package} has no config {path}.{did_you_mean(name, known)} Its configs are in {folder}."
    )


def _explain_unreadable(file: Path, error: Exception) -> str:
    faulty, line = find_config_line(error)
    where = f"{faulty or file}, line {line}," if line else f"{faulty or file}"
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, FileNotFoundError):
        what = f"a file that it inherits does not exist: {error.filename or error}"
    elif isinstance(error, SyntaxError):
        what = f"syntax error: {error.msg}"
    elif isinstance(error, ImportError):
        what = f"an import fails: {error.__cause__ or error}"
    return f"The config {where} cannot be read: {what}"
