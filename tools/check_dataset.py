"""`python tools/check_dataset.py ...`, the same as `ibkd check ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
