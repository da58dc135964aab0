"""`python tools/cache_teacher.py ...`, the same as `ibkd cache ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["cache", *sys.argv[1:]]))
