"""The call behind `ibkd check`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibkd_mm.config.load import ConfigLike, Options, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.data_check import ERROR, NOTE, WARNING, Report, check_datasets, find_datasets
from ibkd_mm.errors import UserError


@dataclass(frozen=True)
class CheckResult:
    """Findings in each dataset of a config."""

    reports: list[Report]
    json_file: Path | None = None

    def count(self, severity: str) -> int:
        """Count the findings of one severity: 'error', 'warning' or 'note'."""
        return sum(report.count(severity) for report in self.reports)

    @property
    def exit_code(self) -> int:
        """1 if there is an error, else 0."""
        return int(self.count(ERROR) > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return counts and findings as plain values, for JSON."""
        totals = {f"{severity}s": self.count(severity) for severity in (ERROR, WARNING, NOTE)}
        return {**totals, "splits": [report.as_dict() for report in self.reports]}

    def __str__(self) -> str:
        totals = ", ".join(f"{self.count(severity)} {severity}s" for severity in (ERROR, WARNING, NOTE))
        last = [f"Everything that was found: {self.json_file}"] if self.json_file else []
        return "\n".join([*(f"{report}\n" for report in self.reports), totals, *last])


def check(
    config: ConfigLike, *, options: Options = None, workers: int | None = None, json_file: str | None = None
) -> CheckResult:
    """Read every image and annotation of a config's datasets and report what is wrong with them.

    Args:
        workers: number of processes that read images; else one for each core.
        json_file: file for all findings.
    """
    if workers is not None and workers < 1:
        raise UserError(f"Expected --workers of 1 or more, found {workers}.")
    out = Path(json_file) if json_file else None
    if out:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.open("a").close()  # fails before the long reading; keeps an old file's content
        except OSError as error:
            raise UserError(f"--json: {out} cannot be written: {error.strerror}.") from error
    ready = prepare_config(config, options)
    with user_errors(ready):
        parts = find_datasets(ready)
    result = CheckResult(check_datasets(parts, workers), out)
    if out:
        out.write_text(json.dumps(result.as_dict(), indent=1))
    return result
