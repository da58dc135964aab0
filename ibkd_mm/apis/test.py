"""The call behind `ibkd test`."""

# ruff: noqa: PT028 - `test` is the command's name, not a test

from dataclasses import dataclass, field
from pathlib import Path

from mmdet.evaluation import DumpDetResults
from mmengine.evaluator import DumpResults

from ibkd_mm.apis.run_config import build_runner, prepare
from ibkd_mm.config.command_options import enable_drawing, enable_tta
from ibkd_mm.config.load import ConfigLike, Options
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.engine.checkpoint.sources import check_exists
from ibkd_mm.engine.distributed import destroy_processes
from ibkd_mm.errors import UserError


@dataclass(frozen=True)
class TestResult:
    """Metrics of a test and the files that it wrote."""

    __test__ = False  # for pytest

    metrics: dict[str, float]
    log_dir: Path
    files: dict[str, Path] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, self.metrics), default=0)
        table = [f"  {name:<{width}}  {value:.4f}" for name, value in self.metrics.items()]
        files = [f"  {what}: {path}" for what, path in {"log": self.log_dir, **self.files}.items()]
        return "\n".join(["Done:", *table, *files])


def test(
    config: ConfigLike,
    checkpoint: str,
    *,
    options: Options = None,
    work_dir: str | None = None,
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2,
    tta: bool = False,
    launcher: str = "none",
) -> TestResult:
    """Evaluate a checkpoint with the model and the test data that a config describes.

    Args:
        checkpoint: a `.pth` or `.safetensors` file, a URL, or `ibkd_mm::NAME`; all its weights must fit.
        out: `.pkl` file for the predictions.
        show: show each image with its predictions for `wait_time` seconds.
        show_dir: folder for images with their predictions; a relative one is created in the run's log folder.
        tta: test-time augmentation: the config's `tta_model` and `tta_pipeline`, else flipping.
    """
    if out is not None and not out.endswith((".pkl", ".pickle")):
        raise UserError(f"--out writes a pickle: expected a name ending in .pkl, found '{out}'.")
    ready = prepare(config, "test", options, work_dir, launcher)
    check_exists(checkpoint)
    ready.load_from, ready.resume = checkpoint, False
    drawn = enable_drawing(ready, show, show_dir, wait_time) if show or show_dir else None
    if tta:
        enable_tta(ready)
    with user_errors(ready):
        runner = build_runner(ready, "test")
        if out:
            # mmdet's encodes instance masks
            dump_class = DumpResults if ready.get("default_scope") == "mmseg" else DumpDetResults
            runner.test_evaluator.metrics.append(dump_class(out_file_path=out))
        metrics = runner.test()
    destroy_processes()
    log_dir, files = Path(runner.log_dir), {"predictions": Path(out)} if out else {}
    if drawn:
        files["images"] = log_dir / drawn
    return TestResult(dict(metrics), log_dir, files)


test.__test__ = False  # type: ignore[attr-defined]
