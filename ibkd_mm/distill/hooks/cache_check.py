"""Whether a teacher's cache is the one that a training is to learn from, asked before the first step."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibkd_mm.distill.cache.identity import identity_of, kept
from ibkd_mm.distill.cache.pictures import TrainPictures, bare_dataset, test_pipeline
from ibkd_mm.distill.cache.riding import LoadTeacherInstances
from ibkd_mm.distill.cache.store import CacheReader, want_same
from ibkd_mm.engine.pipelines import transforms_of
from ibkd_mm.errors import UserError
from ibkd_mm.registry import HOOKS


@HOOKS.register_module()
class CacheCheckHook(Hook):
    """Refuse a cache of another teacher, other pictures or another size, and count what it lacks.

    What it must have been made with is what `ibkd cache` would make it with now: the config's teacher, its
    weights, the annotation file and the transforms of the validation.

    Acts before_train.

    Args:
        pictures: whether the cache must be of this very annotation file; not so for one of a folder.
    """

    def __init__(self, pictures: bool = True) -> None:
        self.pictures = pictures

    def before_train(self, runner: Runner) -> None:
        """Compare every cache that a pipeline reads with the config."""
        transforms = transforms_of(runner.train_dataloader.dataset)
        loading = [each for each in transforms if isinstance(each, LoadTeacherInstances)]
        readers = {each.reader.path: each.reader for each in loading}
        if not readers:
            raise UserError(
                "CacheCheckHook finds no LoadTeacherInstances in train_dataloader.dataset. Put it behind "
                "LoadAnnotations, or set guards.cache_check=None."
            )
        config = runner.cfg
        pipeline = test_pipeline(config)
        pictures = TrainPictures(bare_dataset(config), pipeline) if self.pictures else None
        teacher = config.model.teacher, config.model.get("teacher_ckpt")
        source = None if pictures is None else pictures.source
        wanted = identity_of(*teacher, source, pipeline, kept(config.teacher_cache))
        for path, reader in readers.items():
            found = reader.identity
            want_same(path, found, wanted if self.pictures else {**wanted, "pictures": found["pictures"]})
            _count(runner, reader, [] if pictures is None else pictures.keys)


def _count(runner: Runner, reader: CacheReader, keys: list[str]) -> None:
    there = set(reader.keys())
    lacking = sum(key not in there for key in keys)
    runner.logger.info(f"{reader.path}: the teacher saw {len(there):,} pictures.")
    if lacking:
        runner.logger.warning(
            f"{lacking:,} of {len(keys):,} training pictures are not among them and are trained on "
            "without the teacher. `ibkd cache` goes on where it stopped."
        )
