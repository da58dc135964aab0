"""`ibkd quickstart`: what distillation brings, seen in minutes on generated pictures or on one's own."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.quickstart.quickstart_run import QuickstartResult, run  # noqa: E402

__all__ = ["QuickstartResult", "run"]
