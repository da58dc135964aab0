"""The weights that ship with the package are what their README says."""

import re
from pathlib import Path

import pytest
from safetensors import safe_open

import ibkd_mm
from ibkd_mm.apis import test as evaluate

WEIGHTS = Path(ibkd_mm.__file__).parent / "weights" / "mask2former_tiny_shapes.safetensors"
README = Path(__file__).parents[2] / "configs" / "mask2former" / "README.md"


def test_the_shipped_teacher_is_small_and_in_half_precision():
    assert WEIGHTS.stat().st_size < 10e6
    with safe_open(WEIGHTS, "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert kinds <= {"F16", "I64"}


def test_the_shipped_teacher_has_the_ap_that_its_readme_states(tmp_path):
    stated = re.search(r"\| shipped weights \| ([\d.]+) \| ([\d.]+) \|", README.read_text())
    assert stated, "the README's table has no line for the shipped weights"
    data = {"data_root": str(tmp_path / "shapes"), "spec": {"train": 1}}
    options = {f"test_dataloader.dataset.{key}": value for key, value in data.items()}
    options["test_evaluator.ann_file"] = f"{data['data_root']}/annotations/val.json"
    found = evaluate(
        "ibkd_mm::mask2former/mask2former_tiny_shapes.py",
        "ibkd_mm::mask2former_tiny_shapes.safetensors",
        options=options,
        work_dir=str(tmp_path / "work"),
    ).metrics
    assert 100 * found["coco/segm_mAP"] == pytest.approx(float(stated[1]), abs=0.2)
    assert 100 * found["coco/bbox_mAP"] == pytest.approx(float(stated[2]), abs=0.2)
