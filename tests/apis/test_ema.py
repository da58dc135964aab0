"""What a training with an average saves is what the commands afterwards use."""

import json
from collections.abc import Callable
from pathlib import Path

from ibkd_mm.apis import test as evaluate
from ibkd_mm.apis import train

HOOK = "dict(type='ibkd_mm.StudentEMAHook', decay=0.5, warmup=0, evaluate='both')"


def test_the_test_of_a_checkpoint_measures_the_average(
    tmp_path: Path, write_tiny: Callable[..., Path]
) -> None:
    config = write_tiny(tmp_path, extra=f"\ncustom_hooks = [{HOOK}]\n")
    options = ["train_cfg.max_iters=4", "train_cfg.val_interval=4"]
    result = train(config, options=[*options, "default_hooks.checkpoint.save_best=auto"], work_dir="run")
    (scalars,) = result.log_dir.rglob("scalars.json")
    validated = json.loads(scalars.read_text().splitlines()[-1])
    assert validated["coco/bbox_mAP"] != validated["raw/coco/bbox_mAP"]
    for checkpoint in (result.last, result.best):
        measured = evaluate(config, str(checkpoint), work_dir="test").metrics
        assert measured["coco/bbox_mAP"] == validated["coco/bbox_mAP"]
        assert measured["coco/bbox_mAP_50"] == validated["coco/bbox_mAP_50"]
