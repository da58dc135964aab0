"""`python tools/benchmark.py ...`, the same as `ibkd benchmark ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
