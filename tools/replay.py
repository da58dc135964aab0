"""`python tools/replay.py ...`, the same as `ibkd replay ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["replay", *sys.argv[1:]]))
