"""`python tools/export.py ...`, the same as `ibkd export ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
