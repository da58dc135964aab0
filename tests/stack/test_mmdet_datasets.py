import subprocess
import sys


def test_importing_the_package_prints_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import ibkd_mm"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
