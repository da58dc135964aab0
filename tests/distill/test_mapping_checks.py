"""A mapping that leads nowhere is refused, with where it stands and the nearest name that does lead."""

from typing import Any

import pytest
from torch import nn

from ibkd_mm.distill.mapping_checks import check_names, check_records, check_signature
from ibkd_mm.errors import UserError

LOSS = {"type": "mmrazor.PKDLoss"}
MAPPING = "distiller.loss_forward_mappings"


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    return str(error.value)


def test_a_loss_whose_name_mmengine_would_not_count() -> None:
    text = refused(check_names, {"pkd": LOSS}, {"pkd": {}})
    assert "distiller.distill_losses.pkd" in text
    assert "loss_pkd" in text


def test_a_loss_that_is_given_nothing_names_the_nearest_mapping() -> None:
    text = refused(check_names, {"loss_pkd": LOSS}, {"loss_pdk": {}})
    assert MAPPING in text
    assert "Did you mean 'loss_pdk'?" in text


def test_a_mapping_of_no_loss_names_the_nearest_loss() -> None:
    text = refused(check_names, {"loss_pkd": LOSS}, {"loss_pkd": {}, "loss_pkt": {}})
    assert f"{MAPPING}.loss_pkt" in text
    assert "Did you mean 'loss_pkd'?" in text


def test_losses_with_their_mappings_pass() -> None:
    check_names({"loss_pkd": LOSS, "feature_loss": LOSS}, {"feature_loss": {}, "loss_pkd": {}})


RECORDERS: dict[bool, dict[str, Any]] = {True: {"neck": {}, "head": {}}, False: {"pyramid": {}}}
CONNECTORS: dict[str, Any] = {"bridge": {}}
STUDENT = {"recorder": ["neck", "head"], "from_student": True, "connector": "bridge"}
TEACHER = {"recorder": "pyramid", "from_student": False, "record_idx": 1, "data_idx": 0}


def asked(**changes: Any) -> dict[str, Any]:
    """Mappings of one loss in which the student's argument asks for something else."""
    student = {key: value for key, value in {**STUDENT, **changes}.items() if value is not None}
    return {"loss_pkd": {"preds_S": student, "preds_T": TEACHER}}


def test_mappings_that_lead_somewhere_pass() -> None:
    check_records(asked(), RECORDERS, CONNECTORS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recoder": "neck"}, ["unknown key 'recoder'", "'recorder'"]),
        ({"record_index": 0}, ["unknown key 'record_index'", "'record_idx'"]),
        ({"recorder": None}, ["needs a recorder"]),
        ({"from_student": None}, ["from_student=True or False"]),
        ({"from_student": "yes"}, ["from_student=True or False"]),
        ({"recorder": "neckk"}, ["'neckk' among student_recorders (neck, head)", "mean 'neck'?"]),
        ({"recorder": ["neck", "haed"]}, ["'haed' among student_recorders", "mean 'head'?"]),
        ({"recorder": "pyramid"}, ["'pyramid' among student_recorders"]),
        ({"from_student": False}, ["'neck' among teacher_recorders (pyramid)"]),
        ({"connector": "brigde"}, ["'brigde' among connectors (bridge)", "mean 'bridge'?"]),
        ({"towards": "preds_T"}, ["unknown key 'towards'"]),
        ({"connector": None, "connector_idx": 0}, ["connector_idx needs a connector"]),
        ({"data_idx": [0, 1]}, ["data_idx", "found [0, 1]"]),
        ({"record_idx": -1}, ["record_idx", "found -1"]),
        ({"record_idx": "last"}, ["record_idx", "found 'last'"]),
    ],
)
def test_an_argument_that_leads_nowhere_is_refused_by_its_key(
    changes: dict[str, Any], words: list[str]
) -> None:
    text = refused(check_records, asked(**changes), RECORDERS, CONNECTORS)
    assert f"{MAPPING}.loss_pkd.preds_S" in text
    assert all(word in text for word in words), text


def test_without_recorders_none_are_listed() -> None:
    assert "(none)" in refused(check_records, asked(), {True: {}, False: {}}, CONNECTORS)


class Loss(nn.Module):
    def forward(self, preds_S: Any, preds_T: Any, weight: Any = None) -> None:  # noqa: N803
        """Take what mmrazor's losses take."""


@pytest.mark.parametrize("names", [["preds_S"], [], ["preds_S", "preds_T", "wieght"], ["s", "t"]])
def test_arguments_that_the_loss_does_not_take_or_that_it_lacks(names: list[str]) -> None:
    text = refused(check_signature, "loss_pkd", Loss(), dict.fromkeys(names))
    assert f"{MAPPING}.loss_pkd: Loss takes preds_S, preds_T, weight; found {', '.join(names)}." in text


@pytest.mark.parametrize("names", [["preds_S", "preds_T"], ["weight", "preds_T", "preds_S"]])
def test_arguments_that_the_loss_takes_pass(names: list[str]) -> None:
    check_signature("loss_pkd", Loss(), dict.fromkeys(names))
