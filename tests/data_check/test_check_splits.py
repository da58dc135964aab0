"""Valid data without findings, damage with several findings, and that no input stops the check."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TRAIN, VAL = ("train", None, None, None), ("val", None, None, None)
OF_10 = ("train", "t1.jpg", 1, 10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_anywhere_in_the_file_stops_the_check(tiny, data):
    """Replace a random value of the annotation file."""
    if not hasattr(tiny, "healthy"):
        tiny.healthy = json.dumps(tiny.train)
    tiny.train = json.loads(tiny.healthy)
    node = tiny.train
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not node[key] or not isinstance(node[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        node = node[key]
    node[key] = data.draw(JSON)
    for report in tiny.check().values():
        assert str(report)
        json.dumps(report.as_dict())


def test_a_class_less_at_the_front_shifts_all_labels(tiny):
    tiny.val["categories"].pop(0)
    for annotation in tiny.val["annotations"]:
        annotation["category_id"] = 2
    assert tiny.found(tiny.check()) == {"class-absent": {VAL}, "class-shifted": {VAL}}


def test_without_a_class_in_common_nothing_is_left_to_train_on(tiny):
    tiny.settings["metainfo"] = {"classes": ("person",)}
    assert tiny.found(tiny.check()) == {"class-none": {TRAIN, VAL}, "split-empty": {TRAIN}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b'{"images": [', "not valid JSON"),
        (b'{"images": "\xff\xfe"}', "not valid JSON"),
        (b"[]", "expected a JSON object, found list"),
        (b'{"images": [], "annotations": {}}', "no list of annotations and categories"),
        (b'{"images": [], "categories": []}', "no list of annotations"),
    ],
)
def test_an_annotation_file_that_cannot_be_read_is_named(tiny, content, reason):
    tiny.write()
    path = tiny.root / "train.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (finding,) = tiny.check(write=False)["train"].findings
    assert (finding.kind, finding.severity, finding.file) == ("dataset-unreadable", "error", str(path))
    assert reason in finding.detail


def test_a_split_for_testing_needs_no_annotations(tiny):
    del tiny.val["annotations"]
    assert tiny.found(tiny.check()) == {
        "image-unlabelled": {("val", "v1.jpg", 1, None), ("val", "v2.jpg", 2, None)}
    }


def test_a_mask_is_missed_only_where_it_is_loaded(tiny):
    del tiny.entry(10)["segmentation"]
    assert tiny.found(tiny.check()) == {"mask-missing": {OF_10}}
    tiny.settings["pipeline"] = [{"type": "LoadAnnotations", "with_bbox": True}]
    assert tiny.found(tiny.check()) == {}


def test_what_the_data_set_leaves_out_unseen_is_not_accused(tiny):
    tiny.entry(10).update(ignore=True, bbox=[0, 0, 0, 0], segmentation=[])
    assert tiny.found(tiny.check()) == {}


def test_a_portrait_annotated_as_it_is_shown_is_right(tiny):
    tiny.set_orientation(6)
    tiny.train["images"][0].update(width=48, height=64)
    assert tiny.found(tiny.check()) == {}


def test_where_the_loader_does_not_turn_the_stored_size_counts(tiny):
    tiny.set_orientation(6)
    tiny.settings["pipeline"] = [{"type": "LoadImageFromFile", "color_type": "color_ignore_orientation"}]
    assert tiny.found(tiny.check()) == {}


@pytest.mark.parametrize("edge", [0.9, -0.9])
def test_rounding_at_the_edge_is_no_damage(tiny, edge):
    tiny.entry(10)["bbox"] = [min(edge, 0), 8, 64 + max(edge, 0) - min(edge, 0), 40]
    tiny.entry(10)["segmentation"] = [[edge, 8, 64 + edge, 8, 64 + edge, 48, edge, 48]]
    assert tiny.found(tiny.check()) == {}
