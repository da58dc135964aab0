from pathlib import Path

import pytest
from mmengine.config import Config

from ibkd_mm.config.edit import (
    hash_configs,
    replace_path_prefixes,
    replace_values,
    set_training_length,
    write_config,
)
from ibkd_mm.config.load import load_config

SETTINGS = {"data_root": "data/a", "train_dataloader": {"dataset": {"root": "data/a/b", "size": (4, 4)}}}


def test_values_are_replaced_in_a_copy_without_the_variables_of_the_file() -> None:
    config = Config(SETTINGS)
    replaced = replace_values(config, lambda value: (8, 8) if value == (4, 4) else value)
    assert replaced.to_dict() == {"train_dataloader": {"dataset": {"root": "data/a/b", "size": (8, 8)}}}
    assert config.train_dataloader.dataset.size == (4, 4)


def test_the_first_prefix_that_matches_is_replaced() -> None:
    moved = replace_path_prefixes(Config(SETTINGS), {"data/a": "/x", "data/": "/y"})
    assert moved.train_dataloader.dataset.root == "/x/b"


def test_the_hash_depends_on_settings_that_have_effect() -> None:
    former = hash_configs({"one": Config(SETTINGS)})
    assert len(former) == 16
    assert hash_configs({"one": Config({**SETTINGS, "data_root": "other"})}) == former
    assert hash_configs({"one": Config({**SETTINGS, "launcher": "pytorch"})}) != former


def test_a_written_config_is_read_again_as_it_was(tmp_path: Path) -> None:
    config = replace_values(load_config("ibkd_mm::yolov10/yolov10n-seg_nuclei.py"), lambda value: value)
    write_config(config, tmp_path / "config.py")
    assert load_config(tmp_path / "config.py").to_dict() == config.to_dict()


@pytest.mark.parametrize("steps", [2, 30, 500, 5000])
def test_a_schedule_in_steps_keeps_its_warm_up_up_to_a_fifth(steps: int) -> None:
    config = load_config("ibkd_mm::yolov10/yolov10n-seg_shapes-hard.py")
    before = config.param_scheduler[0].end
    set_training_length(config, steps, 7)
    warm_up, decay = config.param_scheduler
    assert warm_up.end == decay.begin == min(before, max(1, steps // 5))
    assert decay.end == config.train_cfg.max_iters == config.train_cfg.val_interval == steps
    assert config.default_hooks.checkpoint.interval == 7


def test_a_schedule_in_epochs_is_scaled() -> None:
    # 200 epochs: 5 of warm-up, then decay; the last 20 without mosaic
    config = load_config("ibkd_mm::yolov10/yolov10n-seg_nuclei.py")
    set_training_length(config, 400, 7)
    warm_up, decay = config.param_scheduler
    assert (warm_up.end, decay.begin, decay.end) == (10, 10, 400)
    assert {warm_up.by_epoch, decay.by_epoch, config.log_processor.by_epoch} == {False}
    assert config.custom_hooks[1]["last"] == 40
    assert config.train_cfg.type == "IterBasedTrainLoop"


def test_milestones_are_scaled_and_the_warm_up_of_a_distillation_is_shortened() -> None:
    config = load_config("ibkd_mm::mask2former/mask2former_tiny_nuclei.py")
    former = config.train_cfg.max_iters
    shares = [milestone / former for milestone in config.param_scheduler.milestones]
    set_training_length(config, 1000, 7)
    assert config.param_scheduler[0].milestones == [round(1000 * share) for share in shares]
    distilled = load_config("ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes-hard_tenth.py")
    set_training_length(distilled, 100, 7)
    assert distilled.default_hooks.distill_schedule.schedules["all"].warmup == 20
