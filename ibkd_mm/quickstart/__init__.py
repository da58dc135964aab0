"""`ibkd quickstart`: see in minutes what distillation brings, on generated images or on your own."""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.quickstart.quickstart_run import QuickstartResult, run  # noqa: E402

__all__ = ["QuickstartResult", "run"]
