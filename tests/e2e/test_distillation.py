"""Real distillations of a few steps, by the shipped config and from the shipped teacher."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

from ibkd_mm.apis import load_config
from ibkd_mm.apis import test as evaluate
from ibkd_mm.apis.replay import replay
from ibkd_mm.engine import StudentEMAHook
from ibkd_mm.errors import UserError
from ibkd_mm.stack.ops.execution import one_thread

PLAIN = "ibkd_mm::yolov10/yolov10n-seg_shapes.py"
DISTILLED = "ibkd_mm::ibkd/ibkd_mask2former-tiny_yolov10n_shapes.py"
LOSSES = ("loss_cfb", "loss_instance")
STEPS = 4
BRIDGE = ".training_only.distiller.distill_losses.loss_cfb.bridge.levels"


def tensors(state: Any, at: str = "") -> dict[str, Tensor]:
    """Lay out all tensors inside dictionaries and lists, by where they stand."""
    if isinstance(state, Tensor):
        return {at: state}
    parts = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {name: one for key, part in parts for name, one in tensors(part, f"{at}.{key}").items()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread(torch.empty(0)):
        yield


DISTIL: dict[str, Any] = {
    "default_hooks.teacher_check.images": 2,
    "default_hooks.distill_schedule.schedules.all.warmup": 3,
    "model.distiller.connectors.instances.score_thr": 0.05,
    "model.distiller.distill_losses.loss_instance.loss_weight": 1.0,
    "model.distiller.distill_losses.loss_instance.weighting": {"type": "ibkd_mm.ContextWeights"},
}


@pytest.fixture(scope="module")
def straight(run: Callable[..., Any]) -> Any:
    return run("straight", DISTILLED, DISTIL)


@pytest.fixture(scope="module")
def plain(run: Callable[..., Any]) -> Any:
    return run("plain", PLAIN)


@pytest.mark.e2e
def test_training_leaves_the_teacher_as_it_was(straight: Any) -> None:
    before, after = straight.teacher
    assert before == after
    assert straight.forwards == STEPS
    assert not any(module.training for module in straight.model.teacher.modules())
    rising = straight.history("distill.loss_cfb")
    assert len(rising) == STEPS
    assert straight.history("distill.instance.loss_cls")[-1] > 0
    assert straight.history("distill.instance.matched")[-1] > 0


@pytest.mark.e2e
def test_the_teacher_is_in_no_checkpoint_average_or_optimizer(straight: Any, plain: Any) -> None:
    saved, alone = straight.checkpoint(), plain.checkpoint()
    assert list(saved["state_dict"]) == list(alone["state_dict"])
    assert list(saved["raw_state_dict"]) == list(alone["raw_state_dict"])
    beside = [name for name in tensors(saved) if name.startswith(".training_only")]
    assert len(beside) == 16
    assert all(name.startswith(f"{BRIDGE}.") for name in beside)
    teacher = {
        one.data_ptr() for one in (*straight.model.teacher.parameters(), *straight.model.teacher.buffers())
    }
    (average,) = (hook for hook in straight.runner.hooks if isinstance(hook, StudentEMAHook))
    groups = straight.runner.optim_wrapper.optimizer.param_groups
    for kept in (average._weights, average._averages, [one for group in groups for one in group["params"]]):
        assert not teacher & {one.data_ptr() for one in kept}
    # nor under any other name: what is not the student's and its optimizer's is the connectors'
    own = {one.numpy().tobytes() for one in tensors(saved).values() if one.numel() > 1000}
    assert not own & {one for one in straight.teacher[0].values() if len(one) > 4000}


@pytest.mark.e2e
def test_a_checkpoint_loads_strict_in_the_plain_student(straight: Any) -> None:
    config = load_config(PLAIN)
    with DefaultScope.overwrite_default_scope("mmdet"):
        student = MODELS.build(config.model)
    weights = straight.checkpoint()["state_dict"]
    student.load_state_dict(weights, strict=True)
    assert all(torch.equal(one, weights[name]) for name, one in student.state_dict().items())


@pytest.mark.e2e
def test_the_plain_students_test_gives_what_training_printed(
    straight: Any, options: dict[str, Any], folder: Path, predictions: Callable
) -> None:
    mine = {key: value for key, value in options.items() if key.startswith("test_")}
    with predictions() as predicted:
        test = evaluate(PLAIN, str(straight.result.last), options=mine, work_dir=str(folder / "test"))
    log = next(straight.result.log_dir.glob("*.log")).read_text()
    printed = next(line for line in log.splitlines() if "Iter(val)" in line and "coco/segm_mAP:" in line)
    assert "coco/segm_mAP" in test.metrics
    assert all(f"{name}: {value:.4f}" in printed for name, value in test.metrics.items())
    # after so few steps a precision says little: instance by instance, it is the average's prediction
    for found, expected in zip(predicted, straight.predicted, strict=True):
        assert len(found["scores"]) > 10
        for name in ("scores", "labels", "bboxes", "masks"):
            assert torch.equal(found[name], expected[name])


@pytest.mark.e2e
def test_with_every_weight_0_losses_and_weights_are_the_plain_baselines(
    run: Callable[..., Any], plain: Any
) -> None:
    weightless = {f"model.distiller.distill_losses.{name}.loss_weight": 0.0 for name in LOSSES}
    found = run("weightless", DISTILLED, {**DISTIL, **weightless})
    assert found.forwards == 0
    for name in ("loss", "grad_norm", "lr"):
        assert found.history(name) == plain.history(name), name
    assert found.history("student.one_to_one.loss_mask") == plain.history("one_to_one.loss_mask")
    assert len(set(plain.history("loss"))) == STEPS
    for key in ("state_dict", "raw_state_dict"):
        own, other = found.checkpoint()[key], plain.checkpoint()[key]
        assert list(own) == list(other)
        assert all(torch.equal(own[name], other[name]) for name in own)


@pytest.mark.e2e
@pytest.mark.parametrize("former", [False, True])
def test_two_steps_a_stop_and_two_more_equal_four(
    run: Callable[..., Any], straight: Any, folder: Path, former: bool
) -> None:
    stopped = straight.result.work_dir / "iter_2.pth"
    if former:  # before version 0.1.0, bridges were connectors
        checkpoint = straight.checkpoint(2)
        weights = checkpoint["training_only"]["distiller"]
        renamed = {name.replace("distill_losses.loss_cfb", "connectors"): weights[name] for name in weights}
        assert all(name.startswith("connectors.bridge.levels.") for name in renamed)
        checkpoint["training_only"]["distiller"] = renamed
        stopped = folder / "former.pth"
        torch.save(checkpoint, stopped)
    resumed = run(f"resumed_{former}", DISTILLED, DISTIL, resume=stopped)
    expected, found = tensors(straight.checkpoint()), tensors(resumed.checkpoint())
    assert set(found) == set(expected)
    for part in (
        ".state_dict.",
        ".raw_state_dict.",
        ".training_only.distiller.distill_losses.",
        ".optimizer.",
    ):
        names = [name for name in expected if name.startswith(part)]
        assert len(names) >= 16, part
        assert all(torch.equal(found[name], expected[name]) for name in names), part
    middle = tensors(straight.checkpoint(2))
    assert not torch.equal(*(each[f"{BRIDGE}.0.0.weight"] for each in (middle, found)))
    assert resumed.checkpoint()["ema"] == straight.checkpoint()["ema"] == {"updates": STEPS}
    assert resumed.history("distill.loss_cfb") == straight.history("distill.loss_cfb")


@pytest.mark.e2e
def test_a_checkpoint_of_the_other_kind_is_not_resumed(
    run: Callable[..., Any], plain: Any, straight: Any
) -> None:
    aside = r".*load_from=PATH instead of --resume"
    with pytest.raises(
        UserError, match="not written by a FrozenTeacherDistill: it has a model's weights" + aside
    ):
        run("refused", DISTILLED, DISTIL, resume=plain.result.last)
    with pytest.raises(UserError, match="not written by a YOLOv10: .*as in a distillation" + aside):
        run("refused", PLAIN, resume=straight.result.last)


@pytest.mark.e2e
def test_a_mistyped_module_path_ends_the_command_with_the_nearest_name(run: Callable[..., Any]) -> None:
    wrong = {"model.distiller.student_recorders.neck.source": "nekc"}
    with pytest.raises(
        UserError, match=r"student_recorders\.neck: YOLOv10 has no 'nekc'\. Did you mean 'neck'\?"
    ):
        run("mistyped", DISTILLED, {**DISTIL, **wrong})


@pytest.mark.e2e
def test_a_step_that_is_not_finite_is_replayed_with_its_bridges_and_factors(
    run: Callable[..., Any], folder: Path
) -> None:
    """Bridges of other weights, or a warm-up that is over, would give another loss of maps."""
    spoilt = {
        "model.distiller.distill_losses.loss_instance.loss_weight": 1e39,
        "default_hooks.non_finite.patience": 2,
        "default_hooks.teacher_check": None,
    }
    with pytest.raises(UserError, match="Stopped at iteration 2, which is not finite"):
        run("spoilt", DISTILLED, {**DISTIL, **spoilt})
    found = {term.name: term for term in replay(str(folder / "spoilt" / "non_finite_iter_2.replay")).terms}
    assert found["distill.instance.loss_mask"].value == float("inf")
    for name in ("distill.loss_cfb", "student.one_to_many.loss_mask", "student.one_to_one.loss_cls"):
        assert found[name].value == found[name].recorded > 0
