"""Errors about wrong configs and files, from the start of a training to its first step."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ibkd_mm.apis import train
from ibkd_mm.errors import UserError

_DATA = "train_dataloader.dataset"


def _train_error(config: Path, *options: str) -> str:
    with pytest.raises(UserError) as error:
        train(config, options=list(options), work_dir="run")
    return str(error.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "model.type=RetinaNett",
            "No model is named 'RetinaNett' (config key model). Did you mean 'RetinaNet'?",
        ),
        (
            f"{_DATA}.type=CocoDatset",
            "No dataset is named 'CocoDatset' (config key train_dataloader.dataset).",
        ),
        (f"{_DATA}.pipeline.0.type=LoadImage", "(config key train_dataloader.dataset.pipeline.0)"),
        ("optim_wrapper.optimizer.type=SDG", "(config key optim_wrapper.optimizer). Did you mean 'SGD'?"),
        ("model.backbone.norm_cfg.type=BNN", "(config key model.backbone.norm_cfg). Did you mean 'BN'?"),
        (
            "model.backbone.detph=18",
            "ResNet cannot be built (config key model.backbone.detph): ResNet.__init__() got an unexpected "
            "keyword argument 'detph'. Did you mean 'depth'?",
        ),
        (
            "model.backbone.norm_cfg.epss=1",
            "ResNet cannot be built (config key model.backbone.norm_cfg.epss): ",
        ),
        ("model.backbone.norm_cfg.num_groups=1", "got an unexpected keyword argument 'num_groups'."),
        (f"{_DATA}.anno_file=x", f"(config key {_DATA}.anno_file): BaseDataset.__init__() got an unexpected"),
        ("train_cfg.max_iter=1", "Did you mean 'max_iters'?"),
        (
            "default_hooks.logger.intervall=1",
            "LoggerHook cannot be built (config key default_hooks.logger.intervall)",
        ),
        ("model.backbone.depth=17", "ResNet cannot be built (config key model.backbone): invalid depth 17"),
        ("model.backbone.type=None", "RetinaNet cannot be built (config key model): type must be a str"),
        ("optim_wrapper.type=AmpOptimWrapper", "needs a GPU. On a CPU use --amp"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(tiny: Path, option: str, message: str) -> None:
    assert message in _train_error(tiny, option)


def test_a_missing_file_is_named_with_its_setting(tiny: Path) -> None:
    data = tiny.parent / "data"
    assert _train_error(tiny, f"{_DATA}.ann_file=nope.json") == (
        f"The file {data / 'nope.json'} does not exist (config key {_DATA}.ann_file='nope.json'). "
        "Put it there, or correct the path."
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_image_is_named_by_a_worker_too(tiny: Path, workers: int) -> None:
    message = _train_error(tiny, f"{_DATA}.data_prefix.img=nope/", f"train_dataloader.num_workers={workers}")
    assert (
        f"{tiny.parent / 'data' / 'nope' / '0.png'} does not exist (config key {_DATA}.data_prefix.img"
        in message
    )


def _fail(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "{run}"),
            "{run} cannot be written: Permission denied. Make that possible, or choose another",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/nowhere"),
            "/nowhere cannot be written: Read-only file system.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "A file cannot be written: No space left on device.",
        ),
        (OSError("could not write a.jpg; is the disk full?"), "could not write a.jpg; is the disk full?"),
        (
            PermissionError(errno.EACCES, "Permission denied", "{data}/boxes.json"),
            f"The file {{data}}/boxes.json cannot be used (config key {_DATA}.ann_file='boxes.json', ",
        ),
    ],
)
def test_files_that_cannot_be_written_or_read_have_different_errors(
    tiny: Path, error: OSError, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"run": Path("run").absolute(), "data": tiny.parent / "data"}
    if error.filename:
        error.filename = error.filename.format(**places)
    monkeypatch.setattr("mmengine.runner.Runner.build_logger", _fail(error))
    assert _train_error(tiny).startswith(message.format(**places))


def test_a_damaged_image_and_cut_annotations_are_named(
    tmp_path: Path, write_tiny: Callable[..., Path]
) -> None:
    config = write_tiny(tmp_path / "own")
    image, boxes = (
        tmp_path / "own" / "data" / "pictures" / "0.png",
        tmp_path / "own" / "data" / "boxes.json",
    )
    image.write_bytes(b"not a image")
    assert "1 of 8 samples cannot be read, more than the 1.00% that" in _train_error(config)
    assert f"failed to load image: {image}" in _train_error(config)
    boxes.write_text(boxes.read_text()[:100])
    assert f"The annotation file {boxes} is not valid JSON" in _train_error(config)


def test_an_error_inside_a_step_is_not_explained(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdet.models.detectors.RetinaNet.loss", _fail(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        train(tiny, work_dir="run")
