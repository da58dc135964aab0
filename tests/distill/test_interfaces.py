"""Every protocol of `interfaces.py` has implementers in the package, which offer what it names."""

import inspect
from typing import Any

import pytest
from torch import nn

from ibkd_mm.datasets.transforms import MaskCells, MosaicAffine
from ibkd_mm.distill import BridgedFeatureLoss, FrozenTeacherDistill, interfaces
from ibkd_mm.engine import NonFiniteGuard, PreemptionHook, StudentEMAHook
from ibkd_mm.methods.ibkd import ExtraTargets, InstanceDistillLoss, InstancePredictor
from ibkd_mm.methods.ibkd.bifocal import BifocalFeatureLoss
from ibkd_mm.methods.ibkd.teacher_predictions import TeacherPrediction
from ibkd_mm.offline import InstanceCodec, LoadTeacherInstances
from ibkd_mm.offline.cached_instance_transforms import NoAnnotations, SplitTeacherInstances
from ibkd_mm.yolov10.detector import YOLOv10
from ibkd_mm.yolov10.export_graph import DeployedStudent

IMPLEMENTERS: dict[str, tuple[type, ...]] = {
    "DistillLoss": (BridgedFeatureLoss, BifocalFeatureLoss, InstanceDistillLoss),
    "AttachesToStudent": (BifocalFeatureLoss, ExtraTargets),
    "InfersChannels": (BridgedFeatureLoss, BifocalFeatureLoss),
    "SeveralLosses": (BifocalFeatureLoss,),
    "ExtendsTargets": (ExtraTargets,),
    "Distillation": (FrozenTeacherDistill,),
    "TrainingOnlyState": (FrozenTeacherDistill,),
    "CarriesTeacher": (LoadTeacherInstances, SplitTeacherInstances, MaskCells),
    "RemovesLabels": (NoAnnotations,),
    "Closable": (NonFiniteGuard, PreemptionHook, StudentEMAHook, MosaicAffine),
    "Codec": (InstanceCodec,),
    "CachePredictor": (InstancePredictor,),
    "Prediction": (TeacherPrediction,),
    "ExportGraph": (DeployedStudent,),
    "Exportable": (YOLOv10,),
    "Result": (),  # of the calls that predict, which are to come
}
OPTIONAL = {"needs_class_order"}
PROTOCOLS = {
    name: one
    for name, one in vars(interfaces).items()
    if inspect.isclass(one) and getattr(one, "_is_protocol", 0)
}
PAIRS = [(PROTOCOLS[name], one) for name, kinds in IMPLEMENTERS.items() for one in kinds]


def members(protocol: type) -> dict[str, Any]:
    methods = {n: one for n, one in vars(protocol).items() if n == "__call__" or not n.startswith("_")}
    return {**dict.fromkeys(protocol.__annotations__), **methods}


def attributes(kind: type) -> set[str]:
    """Names that a class or its methods set."""
    names = set(dir(kind))
    for base in kind.__mro__:
        names |= set(getattr(base, "__annotations__", {}))
        for method in vars(base).values():
            if inspect.isfunction(method):
                names |= set(method.__code__.co_names)
    return names


def test_every_protocol_is_listed() -> None:
    protocols = {name for name in PROTOCOLS if PROTOCOLS[name].__module__ == interfaces.__name__}
    assert protocols == set(IMPLEMENTERS)


@pytest.mark.parametrize(("protocol", "kind"), PAIRS, ids=lambda one: one.__name__)
def test_an_implementer_has_the_members_of_its_protocol(protocol: type, kind: type) -> None:
    for name, member in members(protocol).items():
        if name in OPTIONAL:
            continue
        if name == "__call__" and issubclass(kind, nn.Module):
            name = "forward"
        assert name in attributes(kind), name
        found = getattr(kind, name, None)
        if inspect.isfunction(member) and inspect.isfunction(found):
            expected = list(inspect.signature(member).parameters.values())
            own = list(inspect.signature(found).parameters.values())
            if not any(each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in expected):
                assert [each.kind for each in own[: len(expected)]] == [each.kind for each in expected]
                assert all(each.default is not each.empty for each in own[len(expected) :])
