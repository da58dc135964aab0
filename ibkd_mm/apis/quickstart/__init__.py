"""`ibkd quickstart`: what distillation brings, seen in minutes on generated pictures or on one's own."""

from ibkd_mm.apis.quickstart.story import Quickstart, run

__all__ = ["Quickstart", "run"]
