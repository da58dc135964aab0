"""The page: well-formed, whole in itself, and nothing in it is empty."""

import base64
import json
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from ibkd_mm.report import (
    Content,
    Evaluated,
    Evaluation,
    Instance,
    Picture,
    Speed,
    group,
    read_runs,
    write,
)

TERMS = {"one_to_one.loss_cls": 2.0, "one_to_one.loss_mask": 1.0}


@pytest.fixture
def content(made, tmp_path):
    def content(evaluation=None, unequal=(), seeds=(0, 1), records=None):
        runs = []
        for seed in seeds:
            for name, config, losses, figure in (
                ("base", made.CONFIG, TERMS, 0.2),
                (
                    "ibkd",
                    made.changed(model=made.distillation()),
                    {
                        **{f"student.{term}": 0.9 * value for term, value in TERMS.items()},
                        "distill.loss_cfb": 4.0,
                    },
                    0.3,
                ),
            ):
                sizes = {"coco/segm_mAP_s": figure / 2, "coco/segm_mAP_m": figure}
                log = [
                    *made.finished(figure + seed / 100, figure, losses)[:-1],
                    made.validation(figure, figure, **sizes),
                ]
                folder = tmp_path / f"{name}_{seed}"
                runs.append(made.write_run(folder, records or log, config, seed=seed, name=name))
        return Content(
            group(read_runs(runs)),
            evaluation or Evaluation(lacking="No model ran."),
            unequal,
            "ibkd report a b",
        )

    return content


def _page(folder):
    return ElementTree.fromstring((folder / "index.html").read_text())


def _text(folder):
    return " ".join(" ".join(_page(folder).itertext()).split())


def _images(folder):
    for image in _page(folder).iter("img"):
        kind, data = image.get("src").split(",", 1)
        assert kind == "data:image/png;base64"
        yield (
            image.get("alt"),
            cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR),
        )


def test_every_figure_is_inside_the_page_beside_it_and_not_empty(content, tmp_path):
    out = tmp_path / "out"
    assert write(out, content()) == out / "index.html"
    images = dict(_images(out))
    assert set(images) == {"Learning curves", "AP by size", "Terms of the loss"}
    for image in images.values():
        assert image.shape[1] == 1280
        assert 0.01 < (image < 250).any(-1).mean() < 0.5
    assert sorted(file.name for file in out.glob("*.png")) == [
        "learning_curves.png",
        "losses.png",
        "sizes.png",
    ]
    curves = cv2.imread(str(out / "learning_curves.png"))
    np.testing.assert_array_equal(curves, images["Learning curves"])
    vermillion = (abs(curves.astype(int) - (0x00, 0x5E, 0xD5)) < 3).all(-1)
    assert vermillion.sum() > 200


def test_nothing_is_asked_from_elsewhere(content, tmp_path):
    write(tmp_path / "out", content())
    html = (tmp_path / "out" / "index.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", html)
    assert not re.search(r"url\(|@import|<script|<link|https?://", html)


def test_a_wide_table_or_figure_scrolls_in_a_box_of_its_own(content, tmp_path):
    write(tmp_path / "out", content())
    boxes = [box for box in _page(tmp_path / "out").iter("div") if box.get("class") == "wide"]
    inside = [element for box in boxes for kind in ("table", "img") for element in box.iter(kind)]
    page = _page(tmp_path / "out")
    assert len(inside) == len(list(page.iter("table"))) + len(list(page.iter("img")))
    assert re.search(r"\.wide \{ overflow-x: auto;", (tmp_path / "out" / "index.html").read_text())
    assert any(meta.get("name") == "viewport" for meta in page.iter("meta"))


def test_what_has_no_data_is_left_out_and_says_why(content, tmp_path):
    out = tmp_path / "out"
    write(out, content())
    said = _text(out)
    for part in ("By class", "Speed", "Where they differ most"):
        assert f"{part} Left out: No model ran." in said
    assert all(any(True for _ in table.iter("td")) for table in _page(out).iter("table"))


def test_a_single_validation_is_no_curve(content, made, tmp_path):
    write(tmp_path / "out", content(records=[made.training(200), made.validation(0.2)]))
    assert "Learning curves Left out: each training was validated once" in _text(tmp_path / "out")
    assert not (tmp_path / "out" / "learning_curves.png").exists()


def test_an_unfair_comparison_says_so_with_every_difference(content, tmp_path):
    write(tmp_path / "out", content(unequal=["train_cfg.max_iters: 1 (a), 2 (b)", "seeds: <0>"]))
    said = _text(tmp_path / "out")
    assert (
        "Not a fair comparison: more than the teacher differs. train_cfg.max_iters: 1 (a), 2 (b) seeds: <0>"
        in said
    )
    write(tmp_path / "fair", Content(**{**content(seeds=(5, 6)).__dict__, "unequal": []}))
    assert "Not a fair comparison" not in _text(tmp_path / "fair")


def test_figures_say_where_they_come_from(content, tmp_path):
    write(tmp_path / "out", content())
    origin = (
        "Baseline: seeds 0, 1, 200 steps with 16 pictures a step, on Some GPU, PyTorch 2.6.0, "
        f"from {tmp_path}/base_0, {tmp_path}/base_1."
    )
    assert _text(tmp_path / "out").count(origin) == 4  # tables, curves, sizes, losses
    assert origin.encode() in (tmp_path / "out" / "losses.png").read_bytes()
    assert "This page: ibkd report a b" in _text(tmp_path / "out")


def test_the_numbers_stand_beside_the_page(content, tmp_path):
    teacher = Evaluated({"coco/segm_mAP": 0.5}, {}, [])
    evaluation = Evaluation({"teacher": teacher}, {"distilled": "teacher"}, hardware="here")
    write(tmp_path / "out", content(evaluation))
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    baseline, distilled = numbers["groups"]
    assert baseline["figures"]["coco/segm_mAP"] == {"mean": 0.2, "spread": 0.0}
    assert distilled["differences"]["coco/segm_mAP"]["mean"] == pytest.approx(0.1)
    assert distilled["share_of_gap_closed"]["coco/segm_mAP"] == pytest.approx(1 / 3)
    assert distilled["share_of_gap_closed"]["coco/bbox_mAP"] is None
    assert distilled["runs"][1]["validation"]["coco/bbox_mAP"] == {"100": 0.15, "200": 0.3}
    assert distilled["runs"][0]["losses"]["distill.loss_cfb"]["50"] == 4.0
    assert numbers["evaluated"]["teacher"]["metrics"] == {"coco/segm_mAP": 0.5}


def test_classes_and_speed_of_models_that_ran(content, tmp_path):
    classes = {"disc": 0.4, "a rather long name of a class": 0.1}
    evaluation = Evaluation(
        {name: Evaluated({}, classes, []) for name in ("baseline", "distilled", "teacher")},
        {"distilled": "teacher"},
        speeds=[
            Speed("baseline", 2_519_144, 22.76, 45.0, 1.0),
            Speed("teacher", 4_244_585, 69.6, None, 3.05),
        ],
        hardware="here",
    )
    out = tmp_path / "out"
    write(out, content(evaluation))
    image = dict(_images(out))["AP by class"]
    assert 0.05 < (image < 250).any(-1).mean() < 0.6
    said = _text(out)
    assert "baseline 2.52 M 22.8 1.00 45.0" in said
    assert "teacher 4.24 M 69.6 3.05 -" in said
    assert "Evaluated on: here." in said


def test_a_model_without_figures_has_neither_bars_nor_a_place_in_the_legend(content, tmp_path):
    both = content(seeds=(0,))
    with_teacher = Evaluation({"teacher": Evaluated({}, {}, [])}, {"distilled": "teacher"}, lacking="No.")
    write(tmp_path / "without", both)
    write(tmp_path / "with", Content(**{**both.__dict__, "evaluation": with_teacher}))
    assert (tmp_path / "with" / "sizes.png").read_bytes() == (tmp_path / "without" / "sizes.png").read_bytes()


def test_pictures_that_differ_have_captions_and_a_legend(content, tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), np.full((20, 20, 3), 100, np.uint8))
    mask = rle.encode(np.asfortranarray(np.tri(20, dtype=np.uint8)))
    thing = Instance({"size": mask["size"], "counts": mask["counts"].decode()}, 1)
    evaluation = Evaluation(
        {"baseline": Evaluated({}, {}, [[]]), "distilled": Evaluated({}, {}, [[thing]])},
        pictures=[Picture(tmp_path / "one.png", [thing])],
        classes=["disc", "star"],
        palette=[(1, 2, 3), (4, 5, 6)],
        hardware="here",
    )
    write(tmp_path / "out", content(evaluation))
    page = _page(tmp_path / "out")
    captions = ["".join(each.itertext()) for each in page.iter("figcaption")]
    assert captions == ["ground truth", "baseline, IoU 0.00", "distilled, IoU 1.00"]
    assert [chip.get("style") for chip in page.iter("i")] == ["background: rgb(4, 5, 6)"]
    truth, baseline, distilled = (image for alt, image in _images(tmp_path / "out") if alt in captions)
    np.testing.assert_array_equal(truth, distilled)
    assert (truth != baseline).any()


def test_pictures_of_an_earlier_report_do_not_stay(content, tmp_path):
    out = tmp_path / "out"
    (out / "pictures").mkdir(parents=True)
    (out / "classes.png").touch()
    (out / "pictures" / "00-0.png").touch()
    write(out, content())
    assert not (out / "classes.png").exists()
    assert not (out / "pictures" / "00-0.png").exists()


def test_pictures_of_others_stay(content, tmp_path):
    out = tmp_path / "out"
    foreign = [out / name for name in ("photo.png", "pictures/photo.png", "pictures/2024-01.png")]
    (out / "pictures").mkdir(parents=True)
    for file in foreign:
        file.write_bytes(file.name.encode())
    write(out, content())
    assert [file.read_bytes() for file in foreign] == [file.name.encode() for file in foreign]


def test_a_term_that_only_distillation_has_is_never_the_one_left_out(content, made, tmp_path):
    from ibkd_mm.report.curves import loss_terms

    both = content(seeds=(0,)).groups
    for run in both[0].runs + both[1].runs:
        run.log.training.update({f"d{place}.loss_x": {50: 1.0, 100: 0.5} for place in range(20)})
    rest = loss_terms(both, tmp_path / "losses.png", "said")
    assert len(rest) == 23 - 18
    assert "distill.loss_cfb" not in rest
