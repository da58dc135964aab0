from ibkd_mm.data_check import Finding, Report


def _report():
    report = Report("train", "CocoDataset", "a.json", {"images": 5, "crowds": 1})
    report.add([("image-unlabelled", "")], file="5.jpg", image=5)
    for n in range(1, 5):
        report.add([("image-size", f"the image is {n} x 9")], file=f"{n}.jpg", image=n)
    report.add([("box-empty", "[0, 0, 0, 0]")], file="1.jpg", image=1, annotation=7)
    return report


def test_the_table_has_the_worst_first_and_three_examples():
    where = " " * 47
    assert str(_report()).splitlines() == [
        "train: CocoDataset of a.json: 5 images, 1 crowds",
        "  error    image-size                        4  "
        "the image size differs from the size in the annotation file",
        f"{where}image 1, 1.jpg: the image is 1 x 9",
        f"{where}image 2, 2.jpg: the image is 2 x 9",
        f"{where}image 3, 3.jpg: the image is 3 x 9",
        f"{where}and 1 more",
        "  warning  box-empty                         1  "
        "the box has no width or no height; training drops the annotation",
        f"{where}annotation 7, image 1, 1.jpg: [0, 0, 0, 0]",
        "  note     image-unlabelled                  1  the image has no annotation",
        f"{where}image 5, 5.jpg",
    ]


def test_counts_are_by_severity():
    assert [_report().count(severity) for severity in ("error", "warning", "note")] == [4, 1, 1]


def test_everything_goes_into_json():
    found = _report().as_dict()
    assert [(entry["kind"], entry["severity"], entry["count"]) for entry in found["findings"]] == [
        ("image-size", "error", 4),
        ("box-empty", "warning", 1),
        ("image-unlabelled", "note", 1),
    ]
    assert [item["image_id"] for item in found["findings"][0]["items"]] == [1, 2, 3, 4]
    assert found["findings"][1]["items"] == [
        {"file": "1.jpg", "image_id": 1, "annotation_id": 7, "detail": "[0, 0, 0, 0]"}
    ]
    assert found["counts"] == {"images": 5, "crowds": 1}


def test_nothing_found_is_said():
    assert str(Report("val", "CocoDataset", "b.json")) == "val: CocoDataset of b.json\n  nothing found"


def test_a_name_that_is_no_valid_text_can_be_shown():
    assert str(Finding("image-missing", file="caf\udce9.jpg")) == r"caf\udce9.jpg"


def test_a_finding_without_a_place_is_its_detail():
    assert str(Finding("class-absent", "'dog'")) == "'dog'"
