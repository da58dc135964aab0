"""`python tools/test.py ...`, the same as `ibkd test ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))
