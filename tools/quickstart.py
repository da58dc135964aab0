"""`python tools/quickstart.py ...`, the same as `ibkd quickstart ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["quickstart", *sys.argv[1:]]))
