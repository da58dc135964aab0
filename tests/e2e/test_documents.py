"""Every command in the documents is checked here: understood by its parser, its config and weights found."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from ibkd_tools.cli import COMMANDS

from ibkd_mm.apis import load_config
from ibkd_mm.engine.sources import locate

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/**/README.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    return [text for found, text in _BLOCK.findall(document.read_text()) if found == language]


def commands() -> list[tuple[str, str]]:
    """Every command line as (document, command), comments cut off and continued lines joined."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                command = shlex.join(shlex.split(line, comments=True))
                if command:
                    found.append((str(document.relative_to(ROOT)), command))
    return found


# Neither ours nor worth running: what they do is seen when anything else here works at all.
_NOT_OURS = ("git clone", "cd ", ". .venv/bin/activate", "pip install", "export ")


def _ours(words: list[str]) -> tuple[str, list[str]] | None:
    """The `ibkd` command in a line, with its arguments, whatever starts it (torchrun, srun, python)."""
    for place, word in enumerate(words):
        if word == "ibkd":
            return words[place + 1], words[place + 2 :]
        if word.startswith("tools/") and word.endswith(".py"):
            return word.removeprefix("tools/").removesuffix(".py"), words[place + 1 :]
    return None


@pytest.mark.parametrize(("document", "command"), commands())
def test_every_command_of_the_documents_is_understood(document, command, monkeypatch):
    monkeypatch.chdir(ROOT)
    if command.startswith(_NOT_OURS):
        return
    words = shlex.split(command)
    if words == [".ci/run"]:
        assert os.access(ROOT / ".ci" / "run", os.X_OK)
        return
    if words[0] == "make":
        dry = subprocess.run(["make", "-n", *words[1:]], capture_output=True, text=True, check=False)
        assert dry.returncode == 0, dry.stderr
        return
    found = _ours(words)
    assert found is not None, f"{document} shows a command that no test knows: {command}"
    name, arguments = found
    assert name in COMMANDS
    if name == "doctor":
        assert set(arguments) <= {"--json"}
        return
    args = importlib.import_module(f"ibkd_tools.{name}").parser().parse_args(arguments)
    if getattr(args, "config", "my_config.py") != "my_config.py":
        load_config(args.config, args.cfg_options)
    checkpoint = getattr(args, "checkpoint", "")
    if checkpoint and not checkpoint.startswith(("http", "work_dirs/")):
        assert locate(checkpoint).is_file()


def test_there_are_commands_to_check():
    assert len(DOCUMENTS) >= 5
    assert len(commands()) >= 15


def _write_coco(root: Path, classes: tuple[str, ...]) -> None:
    """Two pictures a split, one polygon of each class in each."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        images, annotations = [], []
        for image_id in (1, 2):
            picture = rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
            cv2.imwrite(str(root / split / f"{image_id}.jpg"), picture)
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


def test_the_readme_config_for_own_data_trains_and_tests(tmp_path):
    """The config as shown, on two small pictures of cats and dogs; only its size and length are cut."""
    (config,) = blocks(ROOT / "README.md", "python")
    (tmp_path / "my_config.py").write_text(config)
    _write_coco(tmp_path / "data" / "mine", ("cat", "dog"))
    small = [
        "train_cfg.max_epochs=1",
        "load_from=None",
        "model.backbone.init_cfg=None",
        "model.backbone.depth=18",
    ]
    small += ["model.neck.in_channels=[64,128,256,512]", "default_hooks.logger.interval=1"]
    for loader, step in (("train", 2), ("val", 1), ("test", 1)):
        small += [
            f"{loader}_dataloader.dataset.pipeline.{step}.scale=(96,96)",
            f"{loader}_dataloader.num_workers=0",
        ]
        small += [f"{loader}_dataloader.persistent_workers=False"]
    for command in (
        ["train", "my_config.py", "--cfg-options", *small],
        ["test", "my_config.py", "work_dirs/my_config/epoch_1.pth", "--cfg-options", *small],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ibkd_tools.cli", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    assert "coco/segm_mAP" in done.stdout
