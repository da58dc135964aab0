"""Our configs under the training and test scripts that mmdet ships, with the losses of `ibkd train`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mmdet
import pytest
from helpers import ROOT

from ibkd_mm.config.edit import write_config
from ibkd_mm.config.load import load_config

TOOLS = Path(mmdet.__file__).parent / ".mim" / "tools"
CONFIG = ROOT / "configs" / "ibkd" / "ibkd_mask2former-tiny_yolov10n_shapes.py"


def run(*arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def losses(folder: Path) -> list[dict[str, float]]:
    (file,) = folder.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{name: row[name] for name in row if "loss" in name} for row in rows if "loss" in row]


@pytest.mark.e2e
def test_mmdets_own_scripts_train_and_test_a_distillation_as_ours_do(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    changed = {**options, "default_hooks.teacher_check.images": 2}
    config = tmp_path / "small.py"
    write_config(load_config(str(CONFIG), changed), config)
    run(TOOLS / "train.py", config, "--work-dir", tmp_path / "theirs")
    run(ROOT / "tools" / "train.py", config, "--work-dir", tmp_path / "ours")
    found = losses(tmp_path / "theirs")
    assert len(found) == 4
    assert "distill.loss_cfb" in found[0]
    assert found == losses(tmp_path / "ours")
    checkpoint = tmp_path / "theirs" / "iter_4.pth"
    # mmdet's test script imports mmdet before it reads the config: without compiled operators, prepare first
    run_path = f"runpy.run_path({str(TOOLS / 'test.py')!r}, run_name='__main__')"
    script = f"import runpy; from ibkd_mm import stack; stack.prepare(); {run_path}"
    tested = run("-c", script, config, checkpoint, "--work-dir", tmp_path / "test")
    assert "coco/segm_mAP" in tested
