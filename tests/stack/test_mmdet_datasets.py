import subprocess
import sys


def test_importing_everything_prints_nothing():
    command = [sys.executable, "-W", "ignore", "-c", "import ibkd_mm.register_all"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
