"""Growth of a process that does nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from ibkd_mm.benchmark import memory

SCRIPT = """
import runpy, sys
growth_during = runpy.run_path(sys.argv[1])["growth_during"]
before = bytearray(200 * 2**20)
del before

def work():
    for _ in range(3):
        passing = bytearray(64 * 2**20)
        del passing

print(growth_during(work))
"""


@pytest.mark.skipif(not memory._RESET.exists(), reason="no /proc here")
def test_growth_is_the_peak_without_memory_used_before() -> None:
    """200 MiB freed before do not count; 64 MiB allocated and freed three times count once."""
    script = [sys.executable, "-c", SCRIPT, memory.__file__]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert int(done.stdout) / 2**20 == pytest.approx(64, abs=2)


def test_without_proc_the_growth_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = []
    monkeypatch.setattr(memory, "_RESET", tmp_path / "none" / "none")
    assert memory.growth_during(lambda: ran.append(1)) is None
    assert ran == [1]
