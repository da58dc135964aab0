"""The commands with the calls behind them, in one process."""

from pathlib import Path

import pytest

from ibkd_mm import cli
from ibkd_mm.apis import TrainResult


def test_a_training_and_its_test_end_with_where_the_files_lie(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", str(tiny), "--cfg-options", "train_cfg.max_iters=1"]) == 0
    checkpoint = tmp_path / "work_dirs" / "tiny" / "iter_1.pth"
    said = capsys.readouterr().out
    assert said.rstrip().endswith(f"last checkpoint: {checkpoint}")
    assert cli.main(["test", str(tiny), str(checkpoint), "--out", "found.pkl"]) == 0
    said = capsys.readouterr().out
    assert said.rstrip().endswith("predictions: found.pkl")
    assert "  coco/bbox_mAP_50  " in said


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "nope.py"], "There is no config nope.py."),
        (
            ["train", "{config}", "--cfg-options", "modle.x=1"],
            "The config has no key 'modle'. Did you mean 'model'?",
        ),
        (["train", "{config}", "--resume", "nope.pth"], "There is no checkpoint nope.pth."),
        (["test", "{config}", "nope.pth"], "There is no checkpoint nope.pth."),
        (["test", "{config}", "{checkpoint}", "--out", "a.txt"], "expected a name ending in .pkl"),
        (["test", "{config}", "{config}"], "is neither a zip archive nor a pickle"),
    ],
)
def test_wrong_input_is_exit_code_2_and_one_message(
    tiny: Path,
    trained: TrainResult,
    command: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([word.format(config=tiny, checkpoint=trained.last) for word in command]) == 2
    said = capsys.readouterr().err
    assert f"ibkd {command[0]}: error: " in said
    assert message in said
    assert "Traceback" not in said


def test_debug_shows_the_cause_too(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", str(tiny), "--debug", "--cfg-options", "model.type=RetinaNett"]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert "KeyError: 'RetinaNett is not in the" in said
    assert said.rstrip().endswith("Did you mean 'RetinaNet'?")
