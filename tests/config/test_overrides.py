from pathlib import Path
from typing import Any

import pytest

from ibkd_mm.apis import load_config
from ibkd_mm.config import overrides
from ibkd_mm.errors import UserError


def _value(tiny: Path, option: str) -> Any:
    """Override one setting and read it back."""
    config: Any = load_config(tiny, [option])
    for name in option.partition("=")[0].split("."):
        config = config[int(name) if name.isdigit() else name]
    return config


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("train_dataloader.batch_size=4", 4),
        ("model.backbone.norm_cfg.type=GN", "GN"),
        ("model.backbone.out_indices=0,1", [0, 1]),
        ("model.backbone.out_indices=(0,1)", (0, 1)),
        ("test_dataloader.dataset.pipeline.1.scale=(32,32)", (32, 32)),
        ("model.backbone.with_cp=True", True),
        ("model.backbone.init_cfg=None", None),
        ("val_evaluator.outfile_prefix=a=b", "a=b"),
        ("randomness.deterministic=True", True),
        ("find_unused_parameters=True", True),
        ("load_from=x.pth", "x.pth"),
        ("env_cfg.mp_cfg.opencv_num_threads=1", 1),
        ("model.test_cfg.anything_new=1", 1),
        ("visualizer.alpha=0.5", 0.5),
    ],
)
def test_a_setting_takes_the_value_given(tiny: Path, option: str, value: object) -> None:
    assert _value(tiny, option) == value


def test_a_mapping_does_the_same_as_text(tiny: Path) -> None:
    by_text = load_config(tiny, ["model.neck.out_channels=8", "randomness.seed=3"])
    assert (
        load_config(tiny, {"model.neck.out_channels": 8, "randomness.seed": 3}).to_dict() == by_text.to_dict()
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("modle.type=X", "The config has no key 'modle'. Did you mean 'model'?"),
        ("randomnes.seed=1", "The config has no key 'randomnes'. Did you mean 'randomness'?"),
        ("model.bakbone.depth=1", "'model' has no key 'bakbone'. Did you mean 'backbone'?"),
        ("model.test_cfg.score_th=1", "'model.test_cfg' has no key 'score_th'. Did you mean 'score_thr'?"),
        ("train_dataloader.batchsize=1", "Did you mean 'batch_size'?"),
        (
            "model.backbone.depth.x=1",
            "'model.backbone.depth' is 18, so 'model.backbone.depth.x' cannot be set",
        ),
        ("test_dataloader.dataset.pipeline.9.x=1", "is a list of 4: expected a number below that, found '9'"),
        ("custom_hooks.0.type=X", "The config has no key 'custom_hooks'."),
        ("a=1", "The config has no key 'a'."),
        (
            "model.type=1,(2",
            "Expected KEY=VALUE in --cfg-options, found model.type=1,(2 (Imbalanced brackets",
        ),
    ],
)
def test_what_would_silently_do_nothing_is_refused(tiny: Path, option: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(tiny, [option])
    assert message in str(error.value)


_TEACHER, _R50 = "mask2former/mask2former_tiny_shapes.py", "mask2former/mask2former_r50_voc.py"
_R18, _RTMDET = "mask_rcnn/mask_rcnn_r18_fpn_shapes.py", "rtmdet/rtmdet-ins_tiny_shapes.py"
_DATA = "train_dataloader.dataset"


@pytest.mark.parametrize(
    ("config", "option", "places"),
    [
        ("", "pipeline.0.type=X", f"{_DATA}.pipeline.0.type, val_dataloader"),
        ("", "data_root=elsewhere", f"{_DATA}.data_root, val_dataloader"),
        ("", "backbone.norm_cfg.eps=1", ""),
        (_RTMDET, "loader.batch_size=4", "train_dataloader.batch_size, val_dataloader"),
        (_TEACHER, "many.data_root=x", f"{_DATA}.data_root."),
        (_TEACHER, "shapes.spec.seed=1", f"{_DATA}.spec.seed, val_dataloader"),
        (_TEACHER, "max_iters=9", "param_scheduler.1.end, train_cfg.max_iters"),
        (_R18, "head.num_classes=3", "model.roi_head.bbox_head.num_classes, model.roi_head.mask_head"),
        (_R18, "easy.spec.seed=1", f"{_DATA}.spec.seed, val_dataloader"),
        (_R18, "shapes_train.split=val", f"{_DATA}.split."),
        (_R18, "shapes_root=x", ""),
        (_R50, "voc_train.ann_file=x", f"{_DATA}.ann_file."),
        (_R50, "voc_data.data_root=x", f"{_DATA}.data_root, val_dataloader"),
    ],
)
def test_a_variable_that_the_file_used_up_is_refused_with_its_places(
    tiny: Path, config: str, option: str, places: str
) -> None:
    with pytest.raises(UserError) as error:
        load_config(f"ibkd_mm::{config}" if config else tiny, [option])
    key = option.partition("=")[0]
    message = f"'{key.partition('.')[0]}' is a variable that only the config file uses: setting '{key}' has "
    message += "no effect."
    assert str(error.value).startswith(f"{message} Override instead: {places}" if places else message)


def test_a_key_has_an_effect_once_the_module_that_reads_it_registers_it(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overrides, "_known", set(overrides.config_keys()))
    with pytest.raises(UserError, match=r"The config has no key 'pseudo_masks'\.$"):
        load_config(tiny, ["pseudo_masks.path=x"])
    overrides.register_config_key("pseudo_masks")
    config = load_config(tiny, ["pseudo_masks.path=x"])
    assert config.pseudo_masks.path == "x"
    assert overrides.effective_settings(config)["pseudo_masks"] == {"path": "x"}
    with pytest.raises(UserError, match=r"has no key 'pseudo_mask'\. Did you mean 'pseudo_masks'\?"):
        load_config(tiny, ["pseudo_mask.path=x"])


@pytest.mark.parametrize("key", ["memory_format", "compile", "teacher_cache", "tta_model", "tta_pipeline"])
def test_the_keys_of_this_package_are_registered(key: str) -> None:
    assert key in overrides.config_keys()
