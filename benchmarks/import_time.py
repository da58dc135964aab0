"""Measure the processor time of `import ibkd_mm.register_all` after `import mmdet.models`.

    python benchmarks/import_time.py [runs]

Each measurement is a new process; the minimum of the runs is printed. mmdet.models cannot be imported without
mmcv's operators, so a module of placeholders replaces them first. Then the packages that take most time are
listed.
"""

import argparse
import re
import subprocess
import sys
from collections import defaultdict

PLACEHOLDERS = """
import importlib.machinery, sys, types
class Ext(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return print
ext = Ext('mmcv._ext')
ext.__spec__ = importlib.machinery.ModuleSpec('mmcv._ext', None)
sys.modules['mmcv._ext'] = ext
import mmdet.models
"""
MEASURE = """
import time
start = time.process_time()
{code}
print('took', time.process_time() - start)
"""
IMPORT = "import ibkd_mm.register_all"


def run_python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process."""
    command = [sys.executable, "-W", "ignore", *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def measure(before: str, code: str, runs: int) -> float:
    """Return the minimum time in seconds that `code` takes after `before`."""
    outputs = (run_python(before + MEASURE.format(code=code)).stdout for _ in range(runs))
    return min(float(output.rsplit("took", 1)[1]) for output in outputs)


def measure_packages() -> dict[str, float]:
    """Sum up the output of `-X importtime` for each package that is imported after mmdet.models."""
    code = f"{PLACEHOLDERS}import sys; sys.stderr.write('here\\n'); sys.stderr.flush(); {IMPORT}"
    report = run_python(code, "-X", "importtime").stderr
    seconds: dict[str, float] = defaultdict(float)
    for line in report.rpartition("here\n")[2].splitlines():
        if match := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)", line):
            parts = match[2].split(".")
            package = ".".join(parts[: 2 if parts[0] in ("ibkd_mm", "mmrazor", "mmseg") else 1])
            seconds[package] += int(match[1]) / 1e6
    return seconds


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="?", type=int, default=5)
    runs = parser.parse_args().runs
    print(f"import mmdet.models                         {measure('', PLACEHOLDERS, runs):.2f} s")
    print(f"{IMPORT} after that      {measure(PLACEHOLDERS, IMPORT, runs):.2f} s")
    for package, seconds in sorted(measure_packages().items(), key=lambda item: -item[1])[:12]:
        print(f"  {seconds:.3f} s  {package}")


if __name__ == "__main__":
    main()
