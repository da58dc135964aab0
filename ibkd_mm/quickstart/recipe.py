"""The configs of a quickstart: of the student alone, of the distilled one, and of a teacher to be trained."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmengine.config import Config

from ibkd_mm.config.load import load_config
from ibkd_mm.config.overrides import effective_settings
from ibkd_mm.datasets.shapes.build import ShapesSpec, ensure_shapes
from ibkd_mm.quickstart.plan import Amounts
from ibkd_mm.utils.atomic import atomic_write
from ibkd_mm.utils.digest import hash_of_value

BASELINE = "ibkd_mm::yolov10/yolov10n-seg_shapes-hard_tenth.py"
DISTILLED = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_tenth.py"
CACHE = "teacher.sqlite"

_PICTURES = 500
"""To learn from: minutes are enough to learn a tenth of them by heart, and then labels are lacking."""

_FIRST_STEPS_SHARE = 5
"""A warm-up takes at most one in so many steps."""
_KEPT = 2
_LOGGED = 50
"""How often the losses are logged over a training."""


@dataclass(frozen=True)
class Recipe:
    """Configs of trainings by their name; of `teacher` there is one where it is trained as well."""

    baseline: Config
    distilled: Config
    teacher: Config | None = None

    def named(self) -> dict[str, Config]:
        """Give those that there are by their names, which are those of their files and folders."""
        found = {"teacher": self.teacher, "baseline": self.baseline, "distilled": self.distilled}
        return {name: config for name, config in found.items() if config is not None}


class DataSource(Protocol):
    """Pictures, and the configs to learn from them."""

    asked: dict[str, Any]
    """What tells it from other material."""
    amounts: Amounts
    can_be_cut: bool
    said: list[str]
    """What is to be known of it."""
    advice: list[str]
    """What is to be known of the result."""

    def make(self, out: Path, amounts: Amounts) -> None:
        """Put so much of it into a folder, or find it there."""

    def recipe(self, out: Path, amounts: Amounts) -> Recipe:
        """Make the configs for what lies in the folder."""

    def check_sound(self, recipe: Recipe) -> list[str]:
        """Refuse what nothing can be learnt from, and say what is not as it should be."""


class ShapesSource:
    """Shapes as the two configs have them, a tenth of them labelled.

    Args:
        spec: what the data are made of, where other than the configs say.
    """

    can_be_cut = False
    advice: list[str] = []

    def __init__(self, spec: dict[str, Any] | None = None) -> None:
        self._baseline, self._distilled = load_config(BASELINE), load_config(DISTILLED)
        former = self._baseline.train_dataloader.dataset.spec
        self._spec = {**former, "train": _PICTURES, **(spec or {})}
        for config in (self._baseline, self._distilled):
            _take_spec(config, self._spec, former.train)
        labelled = self._baseline.train_dataloader.dataset.indices
        self.amounts = Amounts(labelled, self._spec["train"] - labelled, self._spec["val"])
        self.asked = {"data": "Shapes", "configs": digest(Recipe(self._baseline, self._distilled))}
        self.said = [
            f"Data: Shapes, preset {self._spec['preset']}: {self._spec['train']:,} pictures, {labelled:,} of "
            f"them labelled, {self._spec['val']:,} to judge by. Teacher: the small Mask2Former that ships "
            "with the package."
        ]

    def make(self, out: Path, amounts: Amounts) -> None:
        """Generate the pictures unless they are there."""
        ensure_shapes(_shapes(out), ShapesSpec(**self._spec))

    def recipe(self, out: Path, amounts: Amounts) -> Recipe:
        """Lead the two configs to the folder."""
        cache, root = self._distilled.teacher_cache.path, self._baseline.train_dataloader.dataset.data_root
        moves = {cache: str(out.resolve() / CACHE), root: str(_shapes(out))}
        return Recipe(*(_moved(config, moves) for config in (self._baseline, self._distilled)))

    def check_sound(self, recipe: Recipe) -> list[str]:
        """Trust what was generated."""
        return []


def _shapes(out: Path) -> Path:
    return out.resolve() / "shapes"


def _take_spec(config: Config, spec: dict[str, Any], former: int) -> None:
    """Change what Shapes are made of, and with it which of the pictures are labelled."""
    for node in dicts(config._cfg_dict):
        if "spec" not in node or "data_root" not in node:
            continue
        node["spec"] = dict(spec)
        if "indices" in node:
            part = node["indices"]
            labelled = max(1, (part if isinstance(part, int) else part[0]) * spec["train"] // former)
            node["indices"] = labelled if isinstance(part, int) else list(range(labelled, spec["train"]))


def _moved(config: Config, moves: dict[str, str]) -> Config:
    """Replace the beginnings of paths, the first that fits."""

    def move(value: Any) -> Any:
        start = next((old for old in moves if isinstance(value, str) and value.startswith(old)), None)
        return value if start is None else moves[start] + value[len(start) :]

    return replaced(config, move)


def replaced(config: Config, change: Callable[[Any], Any]) -> Config:
    """Copy what of a config has effect, each value as `change` gives it."""
    return Config(_replaced(Config(effective_settings(config)).to_dict(), change))


def _replaced(node: Any, change: Callable[[Any], Any]) -> Any:
    changed = change(node)
    if changed is not node:
        return changed
    if isinstance(node, dict):
        return {name: _replaced(value, change) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_replaced(each, change) for each in node)
    return node


def dicts(node: Any) -> Iterator[dict[str, Any]]:
    """Go through all dictionaries of a config's, from the outside in."""
    if isinstance(node, dict):
        yield node
    if isinstance(node, dict | list | tuple):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from dicts(inner)


def digest(recipe: Recipe) -> str:
    """Tell configs from others, in a few characters."""
    return hash_of_value({name: effective_settings(each) for name, each in recipe.named().items()})[:16]


def set_length(config: Config, steps: int, checkpoint_every: int) -> None:
    """Fit schedules to a number of steps, whatever they were counted in.

    A warm-up keeps its steps, if that is not too large a part of all; the rest keeps its place.
    """
    former = config.train_cfg.get("max_iters") or config.train_cfg.max_epochs
    schedules = (
        config.param_scheduler if isinstance(config.param_scheduler, list) else [config.param_scheduler]
    )

    def place(value: int, scaled: bool) -> int:
        if scaled or 2 * value > former:
            return max(round(value * steps / former), min(value, 1))
        return min(value, max(1, steps // _FIRST_STEPS_SHARE))

    for schedule in schedules:
        by_epoch = schedule.get("by_epoch", True)
        for key in ("begin", "end"):
            if key in schedule:
                schedule[key] = place(schedule[key], by_epoch)
        if "milestones" in schedule:
            schedule.milestones = [place(one, True) for one in schedule.milestones]
        schedule.by_epoch = False
        schedule.pop("convert_to_iter_based", None)
    for hook in config.get("custom_hooks") or []:
        if "last" in hook:
            hook["last"] = place(hook["last"], True)
    for node in dicts(config.get("default_hooks") or {}):
        if "warmup" in node:
            node["warmup"] = place(node["warmup"], False)
    config.param_scheduler = schedules
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": steps, "val_interval": steps}
    config.merge_from_dict({"log_processor": {"by_epoch": False}})
    checkpoint = {"by_epoch": False, "interval": checkpoint_every, "max_keep_ckpts": _KEPT}
    logger = {"type": "LoggerHook", "interval": max(1, steps // _LOGGED)}
    config.merge_from_dict({"default_hooks": {"checkpoint": checkpoint, "logger": logger}})


def write_config(config: Config, file: Path) -> None:
    """Write a config that can be read again and run by itself."""
    with atomic_write(file) as partial:
        partial.write_text(config.pretty_text)
