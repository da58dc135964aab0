"""mmrazor's distillation part registers, builds and computes; what cannot run says so."""

import importlib
import importlib.metadata
import subprocess
import sys

import mmcv
import pytest
import torch
from mmengine.model import BaseModel
from mmrazor.registry import MODELS, TASK_UTILS
from torch import nn

from ibkd_mm.stack import razor


class Scaler(BaseModel):
    """Multiplies by a number; its loss is the mean."""

    def __init__(self, by):
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.layer.weight, by)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return {"loss": self.layer(inputs).mean()}


def _recorder():
    return {"out": {"type": "ModuleOutputs", "source": "layer"}}


def _distiller(**extra):
    return {
        "type": "ConfigurableDistiller",
        "student_recorders": _recorder(),
        "teacher_recorders": _recorder(),
        "distill_losses": {"loss_out": {"type": "L2Loss", "normalize": False}},
        "loss_forward_mappings": {
            "loss_out": {
                "s_feature": {"from_student": True, "recorder": "out", **extra},
                "t_feature": {"from_student": False, "recorder": "out"},
            }
        },
    }


def _distill(distiller):
    config = {"type": "SingleTeacherDistill", "architecture": Scaler(2.0), "teacher": Scaler(5.0)}
    return MODELS.build({**config, "distiller": distiller})


def test_distils_from_a_config():
    inputs = torch.tensor([[1.0], [3.0]])
    model = _distill(_distiller())
    losses = model(inputs, mode="loss")
    assert losses["student.loss"].item() == pytest.approx(4.0)
    assert losses["distill.loss_out"].item() == pytest.approx((9 + 81) / 2)  # summed, over the batch
    losses["distill.loss_out"].backward()
    assert model.student.layer.weight.grad is not None
    assert model.teacher.layer.weight.grad is None


def test_connectors_transform_the_students_features():
    distiller = _distiller(connector="twice")
    distiller["connectors"] = {
        "twice": {
            "type": "TorchNNConnector",
            "module_name": "Linear",
            "module_args": {"in_features": 1, "out_features": 1},
        }
    }
    model = _distill(distiller)
    linear = model.distiller.connectors["twice"].func
    nn.init.constant_(linear.weight, 2.0)
    nn.init.zeros_(linear.bias)
    losses = model(torch.tensor([[1.0]]), mode="loss")
    assert losses["distill.loss_out"].item() == pytest.approx((2 * 2 - 5) ** 2)


def test_the_distillation_part_is_registered():
    losses = {
        "KLDivergence",
        "L1Loss",
        "L2Loss",
        "ChannelWiseDivergence",
        "DKDLoss",
        "PKDLoss",
        "MGDLoss",
        "ATLoss",
        "DISTLoss",
    }
    connectors = {
        "ConvModuleConnector",
        "NormConnector",
        "TorchNNConnector",
        "TorchFunctionalConnector",
        "MGDConnector",
    }
    algorithms = {"SingleTeacherDistill", "SelfDistill", "FpnTeacherDistill", "ConfigurableDistiller"}
    assert losses | connectors | algorithms <= set(MODELS.module_dict)
    kinds = {
        "ModuleOutputs",
        "ModuleInputs",
        "FunctionOutputs",
        "FunctionInputs",
        "MethodOutputs",
        "MethodInputs",
    }
    recorders = {f"{kind}Recorder" for kind in kinds} | {"ParameterRecorder"}
    deliveries = {"FunctionOutputsDelivery", "MethodOutputsDelivery"}
    assert recorders | deliveries <= set(TASK_UTILS.module_dict)


def test_a_loss_has_its_value():
    loss = MODELS.build({"type": "KLDivergence", "tau": 1.0})
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert loss(student, teacher).item() == pytest.approx(0.0)
    # p = (0.75, 0.25) against q = (0.5, 0.5): 0.75 ln 1.5 + 0.25 ln 0.5
    teacher = torch.log(torch.tensor([[0.75, 0.25]]))
    assert loss(student, teacher).item() == pytest.approx(0.130812, abs=1e-6)


@pytest.mark.parametrize("kind", ["ModuleOutputs", "ModuleInputs"])
def test_recorders_record(kind):
    recorder = TASK_UTILS.build({"type": f"{kind}Recorder", "source": "layer"})
    model = Scaler(2.0)
    recorder.initialize(model)
    with recorder:
        model(torch.tensor([[3.0]]))
    data = recorder.get_record_data()
    value = data[0] if kind == "ModuleInputs" else data
    assert value.item() == {"ModuleOutputs": 6.0, "ModuleInputs": 3.0}[kind]


def test_mmcv_keeps_its_version():
    assert mmcv.__version__ == importlib.metadata.version("onedl-mmcv")


def test_a_second_call_changes_nothing():
    before = dict(sys.modules)
    razor.install()
    assert dict(sys.modules) == before


def test_a_failed_import_names_the_fix_and_restores_mmcvs_version(monkeypatch):
    real = importlib.import_module

    def fails(name, package=None):
        if name == "mmrazor.models.losses":
            assert mmcv.__version__ == "2.1.0"
            raise ModuleNotFoundError("No module named 'joblib'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(ImportError) as caught:
        razor.install()
    text = str(caught.value)
    assert "importing mmrazor.models.losses failed with ModuleNotFoundError: No module named 'joblib'" in text
    assert "`ibkd doctor`" in text
    assert "pip install mmrazor==1.0.0 joblib" in text
    assert mmcv.__version__ == importlib.metadata.version("onedl-mmcv")


def test_an_mmrazor_that_imports_by_itself_is_not_changed(monkeypatch):
    monkeypatch.delitem(sys.modules, razor._BROKEN_MODULES[0])
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    razor.install()
    assert razor._BROKEN_MODULES[0] not in sys.modules


def test_a_function_of_a_broken_module_fails_when_it_is_called():
    from mmrazor.models.quantizers import OpenVINOQuantizer

    with pytest.raises(
        RuntimeError, match=r"mmrazor\.models\.quantizers\.OpenVINOQuantizer is part of mmrazor's quant"
    ):
        OpenVINOQuantizer()


def test_stand_ins_have_the_spec_of_a_module():
    stand_in = sys.modules["mmrazor.models.observers"]
    assert stand_in.__spec__.name == "mmrazor.models.observers"
    assert not hasattr(stand_in, "__file__")
    assert importlib.util.find_spec("mmrazor.models.observers") is stand_in.__spec__


def test_mmrazor_alone_does_not_import_here():
    """The day this fails, razor.py can go."""
    done = subprocess.run([sys.executable, "-c", "import mmrazor"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "MMCV" in done.stderr


def test_the_recursion_limit_is_preserved():
    script = "import sys; sys.setrecursionlimit(1234); from ibkd_mm import stack; stack.prepare(); "
    script += "import mmrazor.models; print(sys.getrecursionlimit())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "1234"
