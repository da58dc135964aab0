"""The page is well-formed and self-contained, and no part of it is empty."""

import base64
import json
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from ibkd_mm.report.groups import group_runs
from ibkd_mm.report.model_results import Instance, ModelResult, ModelResults, Speed, ValidationImage
from ibkd_mm.report.sections import Content
from ibkd_mm.report.training_run import read_runs
from ibkd_mm.report.write import write_report

TERMS = {"one_to_one.loss_cls": 2.0, "one_to_one.loss_mask": 1.0}


@pytest.fixture
def content(made, tmp_path):
    def content(results=None, differences=(), seeds=(0, 1), records=None):
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
            group_runs(read_runs(runs)),
            results or ModelResults(missing="No model ran."),
            differences,
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


def test_every_chart_is_embedded_and_written_beside_the_page(content, tmp_path):
    out = tmp_path / "out"
    assert write_report(out, content()) == out / "index.html"
    images = dict(_images(out))
    assert set(images) == {"Learning curves", "AP by size", "Loss terms"}
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


def test_the_page_has_no_external_resources(content, tmp_path):
    write_report(tmp_path / "out", content())
    html = (tmp_path / "out" / "index.html").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", html)
    assert not re.search(r"url\(|@import|<script|<link|https?://", html)


def test_a_wide_table_or_figure_scrolls_in_a_box_of_its_own(content, tmp_path):
    write_report(tmp_path / "out", content())
    boxes = [box for box in _page(tmp_path / "out").iter("div") if box.get("class") == "wide"]
    inside = [element for box in boxes for kind in ("table", "img") for element in box.iter(kind)]
    page = _page(tmp_path / "out")
    assert len(inside) == len(list(page.iter("table"))) + len(list(page.iter("img")))
    assert re.search(r"\.wide \{ overflow-x: auto;", (tmp_path / "out" / "index.html").read_text())
    assert any(meta.get("name") == "viewport" for meta in page.iter("meta"))


def test_a_section_without_data_shows_the_reason(content, tmp_path):
    out = tmp_path / "out"
    write_report(out, content())
    text = _text(out)
    for part in ("AP by class", "Speed", "Images with the largest differences"):
        assert f"{part} Not shown: No model ran." in text
    assert all(any(True for _ in table.iter("td")) for table in _page(out).iter("table"))


def test_a_single_validation_is_no_curve(content, made, tmp_path):
    write_report(tmp_path / "out", content(records=[made.training(200), made.validation(0.2)]))
    assert "Learning curves Not shown: each training was validated once" in _text(tmp_path / "out")
    assert not (tmp_path / "out" / "learning_curves.png").exists()


def test_an_unfair_comparison_lists_every_difference(content, tmp_path):
    write_report(tmp_path / "out", content(differences=["train_cfg.max_iters: 1 (a), 2 (b)", "seeds: <0>"]))
    text = _text(tmp_path / "out")
    assert (
        "Not a fair comparison: more than the teacher differs. train_cfg.max_iters: 1 (a), 2 (b) seeds: <0>"
        in text
    )
    write_report(tmp_path / "fair", Content(**{**content(seeds=(5, 6)).__dict__, "differences": []}))
    assert "Not a fair comparison" not in _text(tmp_path / "fair")


def test_figures_name_their_sources(content, tmp_path):
    write_report(tmp_path / "out", content())
    source = (
        "Baseline: seeds 0, 1, 200 steps with 16 images per step, on Some GPU, PyTorch 2.6.0, "
        f"from {tmp_path}/base_0, {tmp_path}/base_1."
    )
    assert _text(tmp_path / "out").count(source) == 4  # tables, curves, sizes, losses
    assert source.encode() in (tmp_path / "out" / "losses.png").read_bytes()
    assert "Command: ibkd report a b" in _text(tmp_path / "out")


def test_the_numbers_are_written_beside_the_page(content, tmp_path):
    teacher = ModelResult({"coco/segm_mAP": 0.5}, {}, [])
    results = ModelResults({"teacher": teacher}, {"distilled": "teacher"}, hardware="here")
    write_report(tmp_path / "out", content(results))
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    baseline, distilled = numbers["groups"]
    assert baseline["figures"]["coco/segm_mAP"] == {"mean": 0.2, "std": 0.0}
    assert distilled["differences"]["coco/segm_mAP"]["mean"] == pytest.approx(0.1)
    assert distilled["share_of_gap_closed"]["coco/segm_mAP"] == pytest.approx(1 / 3)
    assert distilled["share_of_gap_closed"]["coco/bbox_mAP"] is None
    assert distilled["runs"][1]["validation"]["coco/bbox_mAP"] == {"100": 0.15, "200": 0.3}
    assert distilled["runs"][0]["losses"]["distill.loss_cfb"]["50"] == 4.0
    assert numbers["evaluated"]["teacher"]["metrics"] == {"coco/segm_mAP": 0.5}


def test_classes_and_speed_of_evaluated_models_are_shown(content, tmp_path):
    classes = {"disc": 0.4, "a rather long name of a class": 0.1}
    results = ModelResults(
        {name: ModelResult({}, classes, []) for name in ("baseline", "distilled", "teacher")},
        {"distilled": "teacher"},
        speeds=[
            Speed("baseline", 2_519_144, 22.76, 45.0, 1.0),
            Speed("teacher", 4_244_585, 69.6, None, 3.05),
        ],
        hardware="here",
    )
    out = tmp_path / "out"
    write_report(out, content(results))
    image = dict(_images(out))["AP by class"]
    assert 0.05 < (image < 250).any(-1).mean() < 0.6
    text = _text(out)
    assert "baseline 2.52 M 22.8 1.00 45.0" in text
    assert "teacher 4.24 M 69.6 3.05 -" in text
    assert "Evaluated on: here." in text


def test_a_model_without_metrics_is_not_in_the_legend(content, tmp_path):
    both = content(seeds=(0,))
    with_teacher = ModelResults({"teacher": ModelResult({}, {}, [])}, {"distilled": "teacher"}, missing="No.")
    write_report(tmp_path / "without", both)
    write_report(tmp_path / "with", Content(**{**both.__dict__, "results": with_teacher}))
    assert (tmp_path / "with" / "sizes.png").read_bytes() == (tmp_path / "without" / "sizes.png").read_bytes()


def test_images_that_differ_have_captions_and_a_legend(content, tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), np.full((20, 20, 3), 100, np.uint8))
    mask = rle.encode(np.asfortranarray(np.tri(20, dtype=np.uint8)))
    thing = Instance({"size": mask["size"], "counts": mask["counts"].decode()}, 1)
    results = ModelResults(
        {"baseline": ModelResult({}, {}, [[]]), "distilled": ModelResult({}, {}, [[thing]])},
        images=[ValidationImage(tmp_path / "one.png", [thing])],
        classes=["disc", "star"],
        palette=[(1, 2, 3), (4, 5, 6)],
        hardware="here",
    )
    write_report(tmp_path / "out", content(results))
    page = _page(tmp_path / "out")
    captions = ["".join(each.itertext()) for each in page.iter("figcaption")]
    assert captions == ["ground truth", "baseline, IoU 0.00", "distilled, IoU 1.00"]
    assert [chip.get("style") for chip in page.iter("i")] == ["background: rgb(4, 5, 6)"]
    truth, baseline, distilled = (image for alt, image in _images(tmp_path / "out") if alt in captions)
    np.testing.assert_array_equal(truth, distilled)
    assert (truth != baseline).any()


def test_images_of_an_earlier_report_are_removed(content, tmp_path):
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (out / "classes.png").touch()
    (out / "images" / "00-0.png").touch()
    write_report(out, content())
    assert not (out / "classes.png").exists()
    assert not (out / "images" / "00-0.png").exists()


def test_other_files_stay(content, tmp_path):
    out = tmp_path / "out"
    foreign = [out / name for name in ("photo.png", "images/photo.png", "images/2024-01.png")]
    (out / "images").mkdir(parents=True)
    for file in foreign:
        file.write_bytes(file.name.encode())
    write_report(out, content())
    assert [file.read_bytes() for file in foreign] == [file.name.encode() for file in foreign]


def test_a_term_that_only_distillation_has_is_never_omitted(content, made, tmp_path):
    from ibkd_mm.report.charts import plot_loss_terms

    both = content(seeds=(0,)).groups
    for run in both[0].runs + both[1].runs:
        run.log.training.update({f"d{place}.loss_x": {50: 1.0, 100: 0.5} for place in range(20)})
    omitted = plot_loss_terms(both, tmp_path / "losses.png", "description")
    assert len(omitted) == 23 - 18
    assert "distill.loss_cfb" not in omitted
