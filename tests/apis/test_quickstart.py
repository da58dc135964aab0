import re
from pathlib import Path

import cv2
import pytest

from ibkd_mm.apis import quickstart
from ibkd_mm.engine import load_weights


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "out"
    return quickstart.run(str(out), seconds=1, spec={"train": 16, "val": 4})


def test_the_page_sets_the_trained_model_beside_the_teacher(page):
    html = page.read_text()
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", html)
    assert [row[0] for row in rows] == ["Mask R-CNN, trained just now", "Mask2Former, the shipped teacher"]
    assert [row[1] for row in rows] == ["3.94 M", "4.24 M"]  # as the READMEs of the two state them
    untrained, teacher = (float(row[2]) for row in rows)
    assert untrained < 5 < teacher


def test_each_validation_picture_is_drawn_as_it_is_and_as_each_model_sees_it(page):
    pictures = sorted(page.parent.glob("0*.png"))
    assert len(pictures) == 4 * 3
    assert {cv2.imread(str(picture)).shape for picture in pictures} == {(320, 320, 3)}
    truth, teacher = (
        cv2.imread(str(page.parent / f"00-{name}.png"))
        for name in ("truth", "mask2former-the-shipped-teacher")
    )
    assert (truth != teacher).any()


def test_the_first_pictures_stand_beside_the_page_as_one(page):
    whole = cv2.imread(str(page.parent / "quickstart.png"))
    assert whole.shape == (34 + 2 * 328, 3 * 328, 3)
    teacher = cv2.imread(str(page.parent / "01-mask2former-the-shipped-teacher.png"))
    assert (whole[34 + 328 : 34 + 648, 4 + 2 * 328 : 4 + 2 * 328 + 320] == teacher).all()


def test_the_training_has_a_seed(page):
    checkpoint = Path(page.parent / "mask_rcnn" / "last_checkpoint").read_text()
    assert load_weights(checkpoint)["meta"]["seed"] == 0
    assert "seed 0" in page.read_text()


def test_both_models_see_the_same_pictures():
    data = {"preset": "easy", "train": 16, "val": 4}
    small, teacher = (
        quickstart._on("somewhere", data, quickstart.load_config(name))
        for name in (quickstart.SMALL, quickstart.TEACHER)
    )
    assert small.test_dataloader.dataset.spec == teacher.test_dataloader.dataset.spec
    assert small.test_dataloader.dataset.spec.val == 4
    assert (
        small.test_evaluator.ann_file == teacher.test_evaluator.ann_file == "somewhere/annotations/val.json"
    )


def test_the_schedule_fits_the_time(monkeypatch):
    monkeypatch.setattr(quickstart, "_seconds_a_step", lambda _: 0.4)
    config = quickstart.load_config(quickstart.SMALL)
    assert quickstart._set_length(config, 120) == 300
    warm_up, decay = config.param_scheduler
    assert (config.train_cfg.max_iters, decay.end, decay.begin) == (300, 300, warm_up.end)
    assert quickstart._set_length(config, 0) == 2
    assert config.param_scheduler[0].end == 1
