"""Work dirs are read as they are: finished, running, resumed, moved."""

from pathlib import Path

import pytest

from ibkd_mm.errors import UserError
from ibkd_mm.report.training_run import read_run, read_runs


def test_a_validation_of_an_iteration_based_loop_has_its_step(made, tmp_path):
    run = read_run(made.write_run(tmp_path / "a", made.finished(0.4, 0.6)))
    assert run.log.validation["coco/segm_mAP"] == {100: 0.2, 200: 0.4}
    assert run.last["coco/bbox_mAP"] == 0.6
    assert (run.unit, run.end, run.log.reached) == ("step", 200, 200)


def test_the_last_validation_of_an_uneven_length_is_at_its_end(made, tmp_path):
    records = [made.training(250), made.validation(0.1), made.training(300), made.validation(0.2)]
    config = made.changed(train_cfg__max_iters=330, train_cfg__val_interval=270)
    log = read_run(made.write_run(tmp_path / "a", records, config)).log
    assert log.validation["coco/segm_mAP"] == {270: 0.1, 330: 0.2}


def test_epochs_are_counted_as_mmengine_does(made, tmp_path):
    records = [made.training(7, epoch=1), made.validation(0.1, step=1), made.training(14, epoch=2)]
    config = made.changed(train_cfg={"type": "EpochBasedTrainLoop", "max_epochs": 2, "val_interval": 1})
    run = read_run(made.write_run(tmp_path / "a", [*records, made.validation(0.3, step=2)], config))
    assert run.log.validation["coco/segm_mAP"] == {1: 0.1, 2: 0.3}
    assert run.losses == {"loss_mask": {7: 1.0, 14: 1.0}}
    assert (run.unit, run.end) == ("epoch", 2)


def test_records_after_the_checkpoint_of_the_resumption_do_not_count(made, tmp_path):
    first = [
        *(made.training(step, {"loss_mask": 9.0}) for step in (50, 100)),
        made.validation(0.1),
        *(made.training(step, {"loss_mask": 9.0}) for step in (150, 200)),
        made.validation(0.9),
    ]
    made.write_run(tmp_path / "a", first, stamp="20260101_000000")
    again = [made.training(150, {"loss_mask": 5.0})]
    run = read_run(made.write_run(tmp_path / "a", again, stamp="20260102_000000"))
    assert run.losses["loss_mask"] == {50: 9.0, 100: 9.0, 150: 5.0}
    assert run.log.validation["coco/segm_mAP"] == {100: 0.1}


def test_a_new_training_in_the_same_folder_replaces_the_old_one(made, tmp_path):
    made.write_run(tmp_path / "a", made.finished(0.9), stamp="20260101_000000")
    new = [made.training(100), made.validation(0.2)]
    config = made.changed(train_cfg__max_iters=100)
    (tmp_path / "a" / "20260103_000000" / "vis_data").mkdir(parents=True)  # a test logs no scalars
    run = read_run(made.write_run(tmp_path / "a", [made.training(50), *new], config, stamp="20260102_000000"))
    assert run.log.validation["coco/segm_mAP"] == {100: 0.2}
    assert run.end == 100


def test_loss_terms_are_separated_from_their_sum_and_from_other_values(made, tmp_path):
    terms = {"student.one_to_one.loss_cls": 2.0, "distill.loss_instance.masks": 3.0}
    records = [made.training(50, terms, grad_norm=7.0, data_time=1.0)]
    run = read_run(made.write_run(tmp_path / "a", records))
    assert run.losses == {name: {50: value} for name, value in terms.items()}
    assert run.step_seconds == 0.5


def test_a_size_without_instances_and_an_unfinished_line_are_skipped(made, tmp_path):
    folder = made.write_run(
        tmp_path / "a", [*made.finished(0.4), made.validation(0.5, **{"coco/segm_mAP_l": -1})]
    )
    with next(folder.glob("*/vis_data/scalars.json")).open("a") as file:
        file.write('{"lr": 0.1, "loss_ma')
    assert "coco/segm_mAP_l" not in read_run(folder).log.validation


def test_seed_processes_and_machine_are_those_of_the_log(made, tmp_path):
    run = read_run(made.write_run(tmp_path / "a", made.finished(0.4), seed=None, processes=2))
    assert (run.seed, run.processes, run.batch) == (77, 2, 32)
    assert run.hardware == "Some GPU, PyTorch 2.6.0"
    assert read_run(made.write_run(tmp_path / "b", made.finished(0.4), seed=5)).seed == 5


def test_the_last_checkpoint_is_found_in_a_moved_folder(made, tmp_path):
    folder = made.write_run(tmp_path / "a", made.finished(0.4))
    assert read_run(folder).checkpoint is None
    (folder / "last_checkpoint").write_text("/elsewhere/iter_200.pth")
    (folder / "iter_200.pth").touch()
    assert read_run(folder).checkpoint == folder / "iter_200.pth"


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["nowhere"], "There is no work dir"),
        ([""], "Expected the work dir of a training"),
        (["a", "./a"], "Expected each work dir once"),
    ],
)
def test_a_folder_that_is_not_a_work_dir_is_refused(made, tmp_path: Path, folders: list[str], message: str):
    made.write_run(tmp_path / "a", made.finished(0.4))
    with pytest.raises(UserError, match=message):
        read_runs([tmp_path / folder for folder in folders])
