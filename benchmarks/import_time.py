"""What `import ibkd_mm` costs on top of `import mmdet.models`: processor seconds, the least of some runs.

    python benchmarks/import_time.py [runs]

Each measurement is a fresh process. mmdet.models does not import without mmcv's operators, so a plain module
of stand-ins is put in their place first. Then the packages are listed in which the difference is spent.
"""

import re
import subprocess
import sys
from collections import defaultdict

STAND_IN = """
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


def seconds(before: str, code: str, runs: int) -> float:
    """Run `code` after `before` in fresh processes and return the least time that it took."""
    took = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", before + MEASURE.format(code=code)],
            capture_output=True,
            text=True,
            check=True,
        )
        took.append(float(done.stdout.rsplit("took", 1)[1]))
    return min(took)


def by_package() -> dict[str, float]:
    """Sum up `-X importtime` by package for what ibkd_mm imports after mmdet.models."""
    code = STAND_IN + "import sys; sys.stderr.write('here\\n'); sys.stderr.flush(); import ibkd_mm"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    spent: dict[str, float] = defaultdict(float)
    for line in done.stderr.rpartition("here\n")[2].splitlines():
        if match := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)", line):
            parts = match[2].split(".")
            spent[".".join(parts[: 2 if parts[0] in ("ibkd_mm", "mmrazor", "mmseg") else 1])] += (
                int(match[1]) / 1e6
            )
    return spent


def main() -> None:
    """Print the cost and where it lies."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    base = seconds("", STAND_IN, runs)
    ours = seconds(STAND_IN, "import ibkd_mm", runs)
    print(f"import mmdet.models           {base:.2f} s")
    print(f"import ibkd_mm on top of it   {ours:.2f} s")
    for package, spent in sorted(by_package().items(), key=lambda item: -item[1])[:12]:
        print(f"  {spent:.3f} s  {package}")


if __name__ == "__main__":
    main()
