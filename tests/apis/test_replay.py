"""A step that a training left is run again, and shows where its numbers come from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.spoilt_steps import CONFIG

from ibkd_mm import cli
from ibkd_mm.apis import train
from ibkd_mm.apis.replay import replay
from ibkd_mm.engine.replay.file import read_step, write_step
from ibkd_mm.errors import UserError


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train until the last of some kinds of steps stops it, and return the file that it left."""

    def stop(*kinds: str, wrapper: str = "OptimWrapper") -> Path:
        config = tmp_path / "spoilt.py"
        config.write_text(CONFIG.format(kinds=list(kinds), steps=len(kinds)))
        options = ["default_hooks.non_finite.patience=1", f"optim_wrapper.type={wrapper}"]
        with pytest.raises(UserError, match="`ibkd replay "):
            train(config, options=options, work_dir=str(tmp_path / "run"))
        return tmp_path / "run" / f"non_finite_iter_{len(kinds)}.replay"

    return stop


@pytest.mark.parametrize("wrapper", ["OptimWrapper", "ibkd_mm.CpuAmpOptimWrapper"])
def test_a_step_run_again_has_the_same_losses_to_the_bit(stopped: Callable[..., Path], wrapper: str) -> None:
    # With dropout and batch statistics, after two steps of momentum.
    found = replay(str(stopped("", "", "inf", wrapper=wrapper)))
    loss_cls, loss_mask = found.terms
    assert found.place == (5, 0, 2)
    assert (loss_cls.name, loss_mask.name) == ("loss_cls", "loss_mask")
    assert loss_cls.value == loss_cls.recorded
    assert loss_cls.value > 0
    assert loss_mask.value == loss_mask.recorded == float("inf")
    assert loss_cls.spoilt == loss_mask.spoilt == []
    assert found.notes == []


def test_another_place_would_have_other_losses(stopped: Callable[..., Path]) -> None:
    """Without this the equality above would say nothing of the random numbers."""
    file = stopped("", "inf")
    step = read_step(file)
    other = {**vars(step), "iteration": 7}
    write_step(file, type(step)(**other))
    (loss_cls, _) = replay(str(file)).terms
    assert loss_cls.value != loss_cls.recorded


def test_the_first_module_whose_output_is_not_finite_is_named(stopped: Callable[..., Path]) -> None:
    found = replay(str(stopped("features")))
    assert found.first_module == "mask (Conv2d)"
    assert found.terms[1].spoilt == ["conv", "norm", "mask"]
    assert found.terms[0].spoilt == []


def test_a_gradient_alone_that_is_not_finite_is_found_by_its_term(stopped: Callable[..., Path]) -> None:
    found = replay(str(stopped("gradient")))
    loss_cls, loss_mask = found.terms
    assert loss_mask.value == loss_mask.recorded
    assert loss_mask.spoilt == ["mask"]
    assert loss_cls.spoilt == []
    assert found.first_module is None


def test_the_command_shows_terms_module_and_batch(
    stopped: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = stopped("", "nan")
    step = read_step(file)
    step.batch["inputs"][0][0, 0, :2] = float("nan")
    step.batch["data_samples"][0].gt_instances.bboxes.tensor[0, 2] = float("inf")
    step.versions["torch"] = "1.0"
    write_step(file, step)
    capsys.readouterr()
    assert cli.main(["replay", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    lines = lines[lines.index("Iteration 2 of process 0, seed 5:") :]
    assert lines[1].split() == ["loss", "term", "now", "in", "the", "training", "gradient"]
    assert lines[2].split()[:3] == ["loss_cls", "nan", f"{step.losses['loss_cls']:.9g}"]
    assert lines[2].endswith("not finite: conv, norm, cls")
    assert lines[4] == "  first module whose output is not finite: data_preprocessor (BaseDataPreprocessor)"
    values = torch.cat([one[one.isfinite()] for one in step.batch["inputs"]])
    low, high = float(values.min()), float(values.max())
    assert lines[5] == f"  batch: 2 images of 1x4x4; values {low:.6g} to {high:.6g}; 2 not finite"
    assert lines[6] == "  instances per image: 2, 0; images without: 1"
    assert lines[7] == "  boxes without area: 1; boxes not finite: 1"
    assert lines[8] == f"  other versions in the training: torch 1.0, now {torch.__version__}"


def test_a_config_is_asked_for_where_none_lies_beside(
    stopped: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = stopped("nan")
    moved = file.rename(tmp_path / "moved.replay")
    (tmp_path / "spoilt.py").rename(tmp_path / "elsewhere.py")
    assert cli.main(["replay", str(moved)]) == 2
    assert "There is no spoilt.py beside" in capsys.readouterr().err
    assert cli.main(["replay", str(moved), "--config", str(tmp_path / "elsewhere.py")]) == 0


def test_weights_of_another_model_are_refused(stopped: Callable[..., Path]) -> None:
    file = stopped("nan")
    step = read_step(file)
    step.state_dict["more"] = torch.ones(1)
    write_step(file, step)
    with pytest.raises(UserError, match="do not fit the model of"):
        replay(str(file))
