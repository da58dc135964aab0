"""`python tools/report.py ...`, the same as `ibkd report ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
