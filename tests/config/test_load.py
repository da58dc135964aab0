from pathlib import Path

import pytest
from mmengine.config import Config

from ibkd_mm.apis import load_config
from ibkd_mm.config.load import check_keys, find_config, prepare_config, student_config
from ibkd_mm.errors import UserError


def _load_error(path: str | Path, **files: str) -> str:
    """Return the error of loading a config, after writing files beside it."""
    for name, text in files.items():
        Path(f"{name}.py").write_text(text)
    with pytest.raises(UserError) as error:
        load_config(path)
    return str(error.value)


def test_a_file_and_the_same_config_in_a_package_are_read_alike() -> None:
    by_package = load_config("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py")
    assert by_package.model.type == "RetinaNet"
    assert load_config(by_package.filename).to_dict() == by_package.to_dict()
    assert load_config("mmdet::retinanet/retinanet_r50_fpn_1x_coco").filename == by_package.filename


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("mmseg::deeplabv3/deeplabv3_r50-d8_4xb2-40k_cityscapes-512x1024.py", "EncoderDecoder"),
        ("ibkd_mm::mask_rcnn/mask_rcnn_r18_fpn_shapes.py", "MaskRCNN"),
    ],
)
def test_other_packages_configs_are_found(path: str, kind: str) -> None:
    assert load_config(path).model.type == kind


def test_looking_for_a_package_never_installs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen.__init__", forbidden)
    with pytest.raises(UserError, match=r"No package 'mmdett' is installed.* Did you mean 'mmdet'\?"):
        load_config("mmdett::retinanet/retinanet_r50_fpn_1x_coco.py")


def test_a_missing_config_is_named_with_the_nearest(tiny: Path) -> None:
    assert "Did you mean 'tiny.py'?" in _load_error(tiny.with_name("tinny.py"))
    assert _load_error("no/such.py") == "There is no config no/such.py."
    message = _load_error("mmdet::retinanet/retinanet-r50_fpn_1x_coco.py")
    assert "Did you mean 'retinanet/retinanet_r50_fpn_1x_coco.py'?" in message


def test_a_folder_or_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    assert "found the folder" in _load_error(tmp_path)
    (tmp_path / "notes.txt").write_text("x = 1")
    assert _load_error("notes.txt") == "Expected a config ending in .py, .json, .yaml, .yml, found notes.txt."


def test_a_fault_is_placed_in_the_file_that_has_it(tmp_path: Path) -> None:
    child = "_base_ = 'parent.py'\n"
    message = _load_error("child.py", child=child, parent="a = 1\nb = dict(")
    assert f"{tmp_path / 'parent.py'}, line 2, cannot be read: syntax error" in message
    message = _load_error("child.py", child=child, parent="a = 1\n\nb = 1 / 0")
    assert f"{tmp_path / 'parent.py'}, line 3, cannot be read: ZeroDivisionError: division by zero" in message


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    message = _load_error("child.py", child="_base_ = 'parent.py'")
    assert message == (
        f"The config {tmp_path / 'child.py'} cannot be read: a file that it inherits does not exist: "
        f"{tmp_path / 'parent.py'}"
    )
    assert "mmfoo" in _load_error("child.py", child="_base_ = 'mmfoo::a/b.py'")


def test_imports_that_fail_are_named() -> None:
    message = _load_error("child.py", child="custom_imports = dict(imports=['no_such_module'])")
    assert "an import fails" in message
    assert "no_such_module" in message
    assert len(message.splitlines()) == 1


def test_a_part_of_a_config_is_recognised() -> None:
    part = load_config("mmdet::_base_/models/retinanet_r50_fpn.py")
    with pytest.raises(
        UserError, match="has no train_dataloader, train_cfg, optim_wrapper, which a training needs"
    ):
        check_keys(part, "training")
    with pytest.raises(
        UserError, match="has no test_dataloader, test_cfg, test_evaluator, which a test needs"
    ):
        check_keys(part, "test")


def test_the_suffix_may_be_left_out(tiny: Path) -> None:
    assert find_config(str(tiny.with_suffix(""))) == tiny


def test_the_student_of_a_distillation_is_found_by_its_class() -> None:
    student = {"type": "YOLOv10", "backbone": {}}
    distillation = {"type": "ibkd_mm.FrozenTeacherDistill", "architecture": student, "teacher": "gone.py"}
    assert student_config(distillation) is student
    assert student_config(student) is student


@pytest.mark.parametrize("name", ["RetinaNet", "mmdet.RetinaNet", "NoSuchModel", "nowhere.Model", dict, None])
def test_other_models_and_unknown_ones_are_left_as_they_are(name: object) -> None:
    model = {"type": name, "architecture": {}}
    assert student_config(model) is model


def test_a_test_keeps_only_the_student(tiny: Path) -> None:
    config = load_config(tiny)
    student = config.model.to_dict()
    config.model = {"type": "ibkd_mm.FrozenTeacherDistill", "architecture": student, "teacher": "gone.py"}
    assert prepare_config(config, None, "test").model.to_dict() == student
    assert prepare_config(config, None, "training").model.type == "ibkd_mm.FrozenTeacherDistill"
    assert config.model.type == "ibkd_mm.FrozenTeacherDistill"


def test_options_change_added_defaults(tiny: Path) -> None:
    def add(config: Config) -> None:
        config.memory_format = "channels_last"

    config = prepare_config(tiny, ["memory_format=None"], add_defaults=add)
    assert config.memory_format is None
    assert prepare_config(tiny, None, add_defaults=add).memory_format == "channels_last"
