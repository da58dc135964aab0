from pathlib import Path
from typing import Any

import pytest

from ibkd_mm.apis import load_config
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
        ("model.backbone.depth.x=1", "'model.backbone.depth' is 18, so there is no 'model.backbone.depth.x'"),
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


@pytest.mark.parametrize("option", ["pipeline.0.type=X", "data_root=elsewhere"])
def test_a_variable_that_the_file_used_up_is_refused_with_its_places(tiny: Path, option: str) -> None:
    with pytest.raises(UserError, match="used up when the file was read") as error:
        load_config(tiny, [option])
    place = "pipeline" if option.startswith("pipeline") else "data_root"
    assert f"Its value stands at: train_dataloader.dataset.{place}" in str(error.value)
