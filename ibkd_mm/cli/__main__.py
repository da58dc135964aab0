"""`python -m ibkd_mm.cli`, the same as `ibkd`."""

from ibkd_mm.cli import main

raise SystemExit(main())
