"""`ibkd doctor`: check the installation and show the command that fixes each fault.

It must run where torch or an OpenMMLab package is broken, so the top of this file and of `doctor_checks`
imports only the standard library.
"""

from __future__ import annotations  # a Python that is too old for the rest must still be reported

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ibkd_mm.stack import doctor_checks as checks
from ibkd_mm.stack.doctor_checks import BROKEN, FORKS, Check, one_line, reinstall_command

_COMPILED = {
    "scipy": "scipy.optimize",
    "pycocotools": "pycocotools.mask",
    "faster-coco-eval": "faster_coco_eval",
}
_IMPORT_ALL_OTHERS = ("ibkd_mm", "ops")


class Diagnosis(NamedTuple):
    """The checks of an installation."""

    checks: list[Check]
    as_json: bool = False

    @property
    def broken(self) -> list[str]:
        """Return the names of the checks that found a fault which makes the installation unusable."""
        return [check.name for check in self.checks if check.state == BROKEN]

    @property
    def exit_code(self) -> int:
        """Return 1 if the installation is unusable, else 0."""
        return int(bool(self.broken))

    def __str__(self) -> str:
        if self.as_json:
            found = [check._asdict() for check in self.checks]
            return json.dumps({"usable": not self.broken, "checks": found}, indent=2)
        width = max(len(check.name) for check in self.checks)
        lines = []
        for check in self.checks:
            lines.append(f"{check.state:<6}  {check.name:<{width}}  {check.found}")
            if check.fix:
                lines.append(f"{'':<6}  {'':<{width}}  fix: {check.fix}")
        lines.append(f"unusable: {', '.join(self.broken)}" if self.broken else "usable")
        return "\n".join(lines)


def diagnose(*, as_json: bool = False) -> Diagnosis:
    """Run all checks, without any output of the packages that they import."""
    results: list[Check] = []
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for name, run_check in _checks().items():
            try:
                results.append(run_check())
            except Exception as error:  # an unforeseen fault must not hide the other checks
                results.append(Check(name, BROKEN, one_line(error), reinstall_command()))
    return Diagnosis(_with_causes(results), as_json)


def _checks() -> dict[str, Callable[[], Check]]:
    """Return the checks by name, those that others depend on first."""
    return {
        "python": checks.check_python,
        "torch": checks.check_torch,
        "torchvision": checks.check_torchvision,
        "gpu": checks.check_gpu,
        "numpy": checks.check_numpy,
        "opencv": checks.check_opencv,
        **{name: partial(checks.check_compiled, name, module) for name, module in _COMPILED.items()},
        **{name: partial(checks.check_fork, name, *release) for name, release in FORKS.items()},
        "mmrazor": checks.check_razor,
        "ibkd_mm": checks.check_package,
        "ops": checks.check_ops,
        "configs": checks.check_configs,
        "shared memory": checks.check_shared_memory,
    }


def _with_causes(results: list[Check]) -> list[Check]:
    """Refer checks that only fail because of another package to the first broken one."""
    cause = next((check.name for check in results if check.state == BROKEN), "")
    return [
        check._replace(fix=f"{cause} first")
        if check.name in _IMPORT_ALL_OTHERS and check.state == BROKEN and check.name != cause
        else check
        for check in results
    ]
