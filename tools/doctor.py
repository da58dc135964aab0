"""Say whether the installation is sound: `ibkd doctor`. Works also where `import ibkd_mm` does not."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Load the doctor by its path, without importing the package around it, and return its exit code."""
    package = find_spec("ibkd_mm")
    if package is None or package.origin is None:
        print(
            "ibkd doctor: error: ibkd_mm is not installed. Run `make install`, or `pip install -e .`",
            file=sys.stderr,
        )
        return 1
    path = Path(package.origin).parent / "stack" / "doctor.py"
    spec = spec_from_file_location("ibkd_doctor", path)
    if spec is None or spec.loader is None or not path.is_file():
        print(f"ibkd doctor: error: {path} is missing. Install ibkd_mm again.", file=sys.stderr)
        return 1
    doctor = module_from_spec(spec)
    sys.modules[spec.name] = doctor  # dataclasses look their own module up there
    spec.loader.exec_module(doctor)
    return int(doctor.main(list(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    sys.exit(main())
