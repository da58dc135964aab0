"""The configs of a quickstart and the data that they train on; here those of generated Shapes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ibkd_mm.config.edit import hash_configs, replace_path_prefixes
from ibkd_mm.config.load import load_config
from ibkd_mm.config.walk import dicts
from ibkd_mm.datasets.shapes.build import ShapesSpec, ensure_shapes
from ibkd_mm.quickstart.plan import ImageCounts
from ibkd_mm.stack.internals import config_dict_of

BASELINE = "ibkd_mm::yolov10/yolov10n-seg_shapes-hard_tenth.py"
DISTILLED = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_tenth.py"
CACHE_FILE = "teacher.sqlite"

# So few that a student memorises the labelled tenth within minutes; then it gains by the teacher's labels.
_TRAINING_IMAGES = 500


@dataclass(frozen=True)
class Recipe:
    """Training configs of the student alone, the distilled student and, if it is trained, the teacher."""

    baseline: Config
    distilled: Config
    teacher: Config | None = None

    def configs(self) -> dict[str, Config]:
        """Return the configs by the names of their stages, files and folders."""
        teacher = {"teacher": self.teacher} if self.teacher else {}
        return {**teacher, "baseline": self.baseline, "distilled": self.distilled}


class ShapesSource:
    """Generated Shapes as in the two shipped configs, a tenth labelled; `spec` overrides their settings.

    `inputs` is all that the data and configs depend on, to compare with a former start. `messages` are about
    the data, `advice` is about the result. If `can_be_reduced`, images may be left out for lack of time.
    """

    can_be_reduced = False
    advice: list[str] = []

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        configs = self._baseline, self._distilled = load_config(BASELINE), load_config(DISTILLED)
        dataset = self._baseline.train_dataloader.dataset
        former_images = dataset.spec.train
        self._spec = {**dataset.spec, "train": _TRAINING_IMAGES, **(spec or {})}
        for config in configs:
            _set_spec(config, self._spec, former_images)
        total, labelled = self._spec["train"], dataset.indices
        self.images = ImageCounts(labelled, total - labelled, self._spec["val"])
        self.inputs = {"data": "Shapes", "configs": hash_configs(Recipe(*configs).configs())}
        self.messages = [
            f"Data: Shapes, preset {self._spec['preset']}: {total:,} training images, {labelled:,} of them "
            f"labelled, and {self._spec['val']:,} validation images. Teacher: the small Mask2Former that "
            "comes with the package."
        ]

    def prepare(self, out: Path, images: ImageCounts) -> None:
        """Generate the images unless they are there."""
        ensure_shapes(_shapes_folder(out), ShapesSpec(**self._spec))

    def recipe(self, out: Path, images: ImageCounts) -> Recipe:
        """Return the two configs with their paths in the output folder."""
        prefixes = {
            self._distilled.teacher_cache.path: str(out.resolve() / CACHE_FILE),
            self._baseline.train_dataloader.dataset.data_root: str(_shapes_folder(out)),
        }
        return Recipe(*(replace_path_prefixes(each, prefixes) for each in (self._baseline, self._distilled)))

    def check(self, recipe: Recipe) -> list[str]:
        """Return no warnings: generated images have no errors."""
        return []


def _shapes_folder(out: Path) -> Path:
    return out.resolve() / "shapes"


def _set_spec(config: Config, spec: dict[str, Any], former_images: int) -> None:
    """Change the spec of all Shapes datasets; the labelled share of the training images stays."""
    for settings in dicts(config_dict_of(config)):
        if "spec" not in settings or "data_root" not in settings:
            continue
        settings["spec"] = dict(spec)
        if "indices" in settings:
            indices, total = settings["indices"], spec["train"]
            is_labelled = isinstance(indices, int)  # else the list of all images after the labelled ones
            labelled = max(1, (indices if is_labelled else indices[0]) * total // former_images)
            settings["indices"] = labelled if is_labelled else list(range(labelled, total))
