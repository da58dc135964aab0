"""The call behind `ibkd export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from ibkd_mm.config.load import ConfigLike, Options, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.deploy.export import Checked, Settings, check_output_free, write_student
from ibkd_mm.deploy.formats import files_of, packages_for
from ibkd_mm.deploy.model_info import class_names
from ibkd_mm.deploy.runtime import ModelInfo
from ibkd_mm.engine import load_matching_weights, load_weights
from ibkd_mm.errors import UserError
from ibkd_mm.utils.optional_packages import require_package
from ibkd_mm.yolov10 import YOLOv10


@dataclass(frozen=True)
class Exported:
    """An exported file and the result of its parity check."""

    path: Path
    info: ModelInfo
    checked: Checked | None

    @property
    def exit_code(self) -> int:
        """1 if the file did not pass its check and was not written."""
        return int(self.checked is not None and not self.checked.result.passed)

    def __str__(self) -> str:
        check = str(self.checked) if self.checked else "Not checked."
        if self.exit_code:
            return f"{check}\nThe check was not passed: {self.path} was not written."
        info, size = self.info, sum(file.stat().st_size for file in files_of(self.path)) / 1e6
        shape = f"{info.size[0]}x{info.size[1]}{' and other sizes' if info.dynamic else ''}"
        about = f"{info.precision}, {shape}, {len(info.classes)} classes, {size:.1f} MB"
        return f"Wrote {self.path}: {about}\n{check}"


def export(
    config: ConfigLike,
    checkpoint: str,
    out: str,
    *,
    options: Options = None,
    settings: Settings | None = None,
) -> Exported:
    """Export a trained student to a file that runs without PyTorch, and check that it predicts the same.

    Args:
        config: a config, its path, or `package::path`.
        checkpoint: as for `test`.
        out: the file to write, ending in .onnx or, for OpenVINO, in .xml; one that exists is not overwritten.
        options: settings to override, as for `load_config`.
        settings: precision, input size and check of the export.
    """
    path, settings = Path(out), settings or Settings()
    for package in packages_for(path):
        require_package(package, "Export")
    check_output_free(path, settings)
    ready = prepare_config(config, options, "test")
    with user_errors(ready):
        detector, classes = _load(ready, checkpoint)
        info, checked = write_student(detector, classes, ready, path, settings)
    return Exported(path, info, checked)


def _load(config: Config, checkpoint: str) -> tuple[Any, list[str]]:
    """Build the config's student with the weights of a checkpoint; return it and the names of its classes."""
    detector = MODELS.build(config.model)
    if not isinstance(detector, YOLOv10):
        raise UserError(
            f"{type(detector).__name__} cannot be exported: the steps after its network (proposals, "
            "suppression) are not part of a graph. Only students can be, models of type ibkd_mm.YOLOv10; "
            f"{config.filename or 'the config'} has {config.model.type}."
        )
    loaded = load_weights(checkpoint)
    mismatch = load_matching_weights(detector, loaded["state_dict"])
    if mismatch:
        raise UserError(f"The checkpoint does not fit the model of the config (YOLOv10):\n{mismatch}")
    return detector, class_names(config, detector.bbox_head.num_classes, loaded.get("meta"))
