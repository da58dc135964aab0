"""`python -m ibkd_mm.cli`, the same as `ibkd`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main())
