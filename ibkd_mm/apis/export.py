"""The call behind `ibkd export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from ibkd_mm.config.load import ConfigLike, Options, prepare_config
from ibkd_mm.config.user_errors import user_errors
from ibkd_mm.deploy.export import check_output_free, export_model
from ibkd_mm.deploy.formats import files_of, packages_for
from ibkd_mm.deploy.metadata import class_names
from ibkd_mm.deploy.task import Checked, ExportSettings
from ibkd_mm.distill.interfaces import Exportable
from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint.state_dict_match import load_all_weights
from ibkd_mm.errors import UserError
from ibkd_mm.utils.optional_packages import require_package


@dataclass(frozen=True)
class Exported:
    """The file that was written, its metadata, and the result of its check."""

    path: Path
    metadata: dict[str, Any]
    checked: Checked | None

    @property
    def exit_code(self) -> int:
        """1 if the file failed its check and was removed."""
        return int(self.checked is not None and not self.checked.result.passed)

    def __str__(self) -> str:
        check = str(self.checked) if self.checked else "Not checked."
        if self.exit_code:
            return f"{check}\nThe check failed: {self.path} was not written."
        about = [self.metadata["precision"]]
        if "size" in self.metadata:
            rows, columns = self.metadata["size"]
            about.append(f"{rows}x{columns}{' and other sizes' if self.metadata['dynamic'] else ''}")
        if "classes" in self.metadata:
            about.append(f"{len(self.metadata['classes'])} classes")
        about.append(f"{sum(file.stat().st_size for file in files_of(self.path)) / 1e6:.1f} MB")
        return f"Wrote {self.path}: {', '.join(about)}\n{check}"


def export(
    config: ConfigLike,
    checkpoint: str,
    out: str,
    *,
    options: Options = None,
    settings: ExportSettings | None = None,
) -> Exported:
    """Write a trained model as a file that runs without PyTorch, and check that it predicts the same.

    Args:
        checkpoint: as for `test`.
        out: the file to write, ending in .onnx or, for OpenVINO, in .xml; existing files are not overwritten.
    """
    path, settings = Path(out), settings or ExportSettings()
    for package in packages_for(path):
        require_package(package, "Export")
    check_output_free(path, settings)
    ready = prepare_config(config, options, "test")
    with user_errors(ready):
        model, classes = _load(ready, checkpoint)
        metadata, checked = export_model(model, path, settings, config=ready, classes=classes)
    return Exported(path, metadata, checked)


def _load(config: Config, checkpoint: str) -> tuple[Exportable, list[str]]:
    """Build the config's model with the weights of a checkpoint, and find the names of its classes."""
    model = MODELS.build(config.model)
    kind, is_exportable = type(model).__name__, isinstance(model, Exportable)
    if not is_exportable:
        raise UserError(
            f"{kind} cannot be exported: it has no export_graph, as what follows its network (proposals, "
            "NMS) is not part of a graph. Students have one, models of type ibkd_mm.YOLOv10; "
            f"{config.filename or 'the config'} has {config.model.type}."
        )
    loaded = load_weights(checkpoint)
    load_all_weights(model, loaded["state_dict"], f"The checkpoint does not fit the config's {kind}")
    count = model.num_classes
    return model, [] if count is None else class_names(config, count, loaded.get("meta"))
