"""Every command in the documents is parsed, and run where that is possible: on few images, in this process.

Commands that are parsed but not run are skipped, with the reason.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import ROOT
from mmengine.registry import MODELS

from ibkd_mm import cli
from ibkd_mm.apis import load_config
from ibkd_mm.config.walk import walk
from ibkd_mm.engine.checkpoint.sources import locate

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/**/README.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def blocks(document: Path, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return [text for found, text in _BLOCK.findall(document.read_text()) if found == language]


def commands() -> list[tuple[str, str]]:
    """List the command lines as (document, command), without comments and with continued lines joined."""
    found = {}
    for document in DOCUMENTS:
        for block in blocks(document, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                command = shlex.join(shlex.split(line, comments=True))
                if command:
                    found.setdefault(command, str(document.relative_to(ROOT)))
    return [(document, command) for command, document in found.items()]


# First words of commands that are parsed but not run, and the reason.
_NOT_RUN = {
    ". .venv/bin/activate": "not a command of this project",
    ".ci/run": "runs this test",
    "make ": "installs, or runs everything; checked with make -n",
    "torchrun ": "needs COCO or several processes, see test_distributed.py",
    "srun ": "needs a cluster",
    "mpirun ": "needs MPI",
    ".venv/bin/python benchmarks/": "takes minutes",
    "python runtime.py ": "run by tests/deploy/test_runtime.py",
    "ibkd report ": "needs trainings; run by tests/apis/test_report.py",
    "ibkd quickstart ": "takes minutes; run by tests/quickstart",
}


def _find_command(words: list[str]) -> tuple[str, list[str]] | None:
    """Find the `ibkd` command and its arguments in a line, after any launcher (torchrun, srun, python)."""
    for position, word in enumerate(words):
        if word == "ibkd":
            return words[position + 1], words[position + 2 :]
        if word.startswith("tools/") and word.endswith(".py"):
            return word.removeprefix("tools/").removesuffix(".py"), words[position + 1 :]
    return None


def _check(words: list[str]) -> None:
    """Fail if a command, argument, config, file or checkpoint in a line does not exist."""
    if words[0] == "make":
        dry = subprocess.run(["make", "-nC", ROOT, *words[1:]], capture_output=True, text=True, check=False)
        assert dry.returncode == 0, dry.stderr
    for word in words:
        if word.startswith(("benchmarks/", ".ci/")):
            assert (ROOT / word).is_file()
    found = _find_command(words)
    if found is None:
        return
    name, arguments = found
    name = {"check_dataset": "check", "cache_teacher": "cache"}.get(name, name)
    assert name in cli.command_names()
    if name == "doctor":
        assert set(arguments) <= {"--json"}
        return
    args = cli.build_parser(name).parse_args(arguments)
    if getattr(args, "config", "my_config.py") != "my_config.py":
        config = load_config(args.config, args.cfg_options)
        student = config.model.get("architecture", config.model)
        initial = (student.backbone.get("init_cfg") or {}).get("checkpoint")
        if initial and name == "train":
            locate(initial)
    checkpoint = getattr(args, "checkpoint", "")
    if checkpoint and not checkpoint.startswith(("http", "work_dirs/")):
        assert locate(checkpoint).is_file()


@pytest.fixture
def folder(tmp_path, monkeypatch, traced_once):
    """Return an empty folder with the configs of the checkout; downloads are replaced by a local file."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")

    def fetch(url: str) -> Path:
        if "/mobilenet_v2_" in url:  # the only download that is also loaded
            weights = MODELS.build({"type": "mmdet.MobileNetV2"}).state_dict()
            torch.save({"state_dict": weights}, "fetched.pth")
        return Path("fetched.pth").absolute()

    monkeypatch.setattr("ibkd_mm.engine.checkpoint.sources._download", fetch)
    monkeypatch.setenv("LOCAL_RANK", "0")  # the commands set it; monkeypatch restores it
    return tmp_path


def _shapes_datasets(loader: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the settings of each ShapesDataset of a loader with their config path."""
    for inner, node in walk(loader, path):
        if isinstance(node, Mapping) and "spec" in node:
            yield inner, node


def _shorten(arguments: list[str]) -> list[str]:
    """Add options for a few images, two steps and no worker processes."""
    config = load_config(arguments[0])
    options = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"]
    for split in ("train", "val", "test"):
        loader = f"{split}_dataloader"
        for path, dataset in _shapes_datasets(config[loader], loader):
            options += [f"{path}.spec.train=4", f"{path}.spec.val=2"]
            if "indices" in dataset:
                options.append(f"{path}.indices={2 if isinstance(dataset.indices, int) else '[2,3]'}")
        options += [f"{loader}.num_workers=0", f"{loader}.persistent_workers=False", f"{loader}.batch_size=2"]
    return [*arguments, "--cfg-options", *options]


def _write_initial_checkpoint(path: str) -> None:
    """Write the checkpoint that the command before this one would have trained."""
    config = load_config(path)
    start = Path(config.get("load_from") or "")
    if start.parts[:1] == ("work_dirs",):
        start.parent.mkdir(parents=True)
        torch.save({"state_dict": MODELS.build(config.model).state_dict()}, start)


@pytest.mark.parametrize(("document", "command"), commands())
def test_every_command_of_the_documents_runs(document, command, folder, monkeypatch, capsys):
    words = shlex.split(command)
    monkeypatch.chdir(folder)
    _check(words)
    reason = next((why for start, why in _NOT_RUN.items() if command.startswith(start)), "")
    if reason:
        pytest.skip(f"parsed, not run: {reason}")
    assert words[0] == "ibkd", f"{document} has a command that no test runs: {command}"
    name, arguments = words[1], words[2:]
    if "my_config.py" in arguments:
        pytest.skip("run by test_the_readme_config_for_own_data_trains_and_tests")
    if any("_coco.py" in word for word in arguments):
        pytest.skip("parsed, not run: needs COCO")
    if name in ("train", "test", "check", "export", "cache"):
        arguments = _shorten(arguments)
    if name == "train" and re.search(r"/ibkd/\S+_(cached|tenth)\.py", command):
        assert cli.main(["cache", *arguments]) == 0
    if name == "train":
        _write_initial_checkpoint(arguments[0])
    if name == "publish":
        Path(arguments[0]).parent.mkdir(parents=True)
        torch.save({"state_dict": {"weight": torch.ones(2)}}, arguments[0])
    if name in ("export", "test") and arguments[1].startswith("work_dirs/"):
        Path(arguments[1]).parent.mkdir(parents=True)
        torch.save({"state_dict": MODELS.build(load_config(arguments[0]).model).state_dict()}, arguments[1])
    if name == "benchmark":
        cv2.imwrite("image.jpg", np.zeros((48, 64, 3), np.uint8))
        arguments = [*arguments, "--rounds", "1", "--warmup", "0", "--no-memory"]
    assert cli.main([name, *arguments]) == 0
    output = capsys.readouterr().out
    expected = {
        "train": "last checkpoint: ",
        "test": "coco/segm_mAP ",
        "doctor": "usable",
        "publish": "Wrote ",
        "export": "Wrote student.",
        "cache": "4 images",
        "check": "0 errors",
        "benchmark": "whole pipeline",
    }
    assert expected[name] in output
    if "--show-dir" in arguments:
        assert len(list(folder.glob("work_dirs/*/*/images/*.jpg"))) == 2


def test_there_are_commands_to_check():
    assert len(DOCUMENTS) >= 5
    assert len(commands()) >= 15


_CONFIGS = [
    (str(document.relative_to(ROOT)), block)
    for document in DOCUMENTS
    for block in blocks(document, "python")
    if block.startswith("_base_")
]


@pytest.mark.parametrize(("document", "config"), _CONFIGS)
def test_every_config_of_the_documents_can_be_read(document, config, folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("shown.py").write_text(config)
    shown = load_config("shown.py")
    assert shown.model
    assert shown.train_dataloader


def _write_coco(root: Path, classes: tuple[str, ...]) -> None:
    """Write two images for each split, with one polygon of each class in each image."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for image_id in (1, 2):
            image = rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
            cv2.imwrite(str(root / split / f"{image_id}.jpg"), image)
            images.append({"id": image_id, "file_name": f"{image_id}.jpg", "width": 96, "height": 96})
            for category, _ in enumerate(classes, start=1):
                x, y, side = 10 + 40 * (category - 1), 20, 36
                outline = [x, y, x + side, y, x + side, y + side, x, y + side]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category,
                        "bbox": [x, y, side, side],
                        "area": side**2,
                        "iscrowd": 0,
                        "segmentation": [outline],
                    }
                )
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
        coco = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(coco))


def test_the_readme_config_for_own_data_trains_and_tests(folder, monkeypatch, capsys):
    """Run the config and commands of the README on two small images; only image size and length differ."""
    (config,) = blocks(ROOT / "README.md", "python")
    (folder / "my_config.py").write_text(config)
    _write_coco(folder / "data" / "mine", ("cat", "dog"))
    small = [
        "train_cfg.max_epochs=1",
        "load_from=None",
        "model.backbone.init_cfg=None",
        "model.backbone.depth=18",
        "model.neck.in_channels=[64,128,256,512]",
        "model.roi_head.bbox_head.fc_out_channels=64",
        "model.test_cfg.rcnn.max_per_img=4",
        "default_hooks.logger.interval=1",
    ]
    for loader, step in (("train", 2), ("val", 1), ("test", 1)):
        small += [f"{loader}_dataloader.dataset.pipeline.{step}.scale=(96,96)"]
        small += [f"{loader}_dataloader.num_workers=0", f"{loader}_dataloader.persistent_workers=False"]
    monkeypatch.chdir(folder)
    shown = [shlex.split(command) for document, command in commands() if "my_config.py" in command]
    assert [words[1] for words in shown] == ["train", "test"]
    last = f"epoch_{load_config('my_config.py').train_cfg.max_epochs}.pth"
    assert shown[1][3].endswith(last)
    shown[1][3] = shown[1][3].replace(last, "epoch_1.pth")
    for words in shown:
        assert cli.main([*words[1:], "--cfg-options", *small]) == 0
    assert "coco/segm_mAP" in capsys.readouterr().out
