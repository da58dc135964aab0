import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import SimpleNamespace

import mmcv
import pytest
import torch
from mmcv.utils import ext_loader

from ibkd_mm.stack import ops
from ibkd_mm.stack.ops import extension, torchvision_kernels

NAME = "mmcv._ext"


class CompiledStandIn(MetaPathFinder, Loader):
    """Lets Python find a compiled `mmcv._ext`, whole or broken."""

    def __init__(self, error=None):
        self.error = error

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == NAME else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if self.error:
            raise self.error
        module.nms = lambda *args: "compiled"


@pytest.fixture
def nothing_installed(monkeypatch):
    """As before `install()`: no extension is loaded, and what the test loads is forgotten afterwards."""
    monkeypatch.setattr(mmcv, "_ext", None, raising=False)
    monkeypatch.delitem(sys.modules, NAME)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(torchvision_kernels, "is_importable", lambda: False)


def without_compiled(monkeypatch):
    monkeypatch.setattr(ops, "find_spec", lambda name: None)


def test_the_portable_extension_is_a_module_like_any_other(nothing_installed, monkeypatch):
    without_compiled(monkeypatch)
    ops.install()
    assert ops.backend() == "portable"
    from mmcv import _ext

    assert _ext is sys.modules[NAME]
    assert _ext.__spec__.name == find_spec(NAME).name == NAME
    assert ext_loader.load_ext("_ext", ["nms", "a_future_operator"]) is _ext


def test_installing_twice_changes_nothing(nothing_installed, monkeypatch):
    without_compiled(monkeypatch)
    ops.install()
    first = sys.modules[NAME]
    ops.install()
    assert sys.modules[NAME] is first


def test_a_compiled_extension_is_left_in_charge(nothing_installed):
    sys.meta_path.insert(0, CompiledStandIn())
    ops.install()
    assert sys.modules[NAME].nms() == "compiled"
    assert ops.backend() == "compiled"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_a_cpu_does_not_reach_a_compiled_extension(nothing_installed, dtype):
    sys.meta_path.insert(0, CompiledStandIn())
    ops.install()
    boxes, scores = (
        torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [9, 9, 12, 12]]),
        torch.tensor([0.5, 0.75, 0.25]),
    )
    kept = sys.modules[NAME].nms(boxes.to(dtype), scores.to(dtype), iou_threshold=0.5, offset=0)
    assert kept.tolist() == [1, 2]
    assert sys.modules[NAME].nms(boxes, scores, 0.5, 0) == "compiled"


def test_a_compiled_extension_that_does_not_import_is_replaced_and_said_to_be_broken(nothing_installed):
    sys.meta_path.insert(0, CompiledStandIn(ImportError("undefined symbol: torch_of_another_day")))
    with pytest.warns(UserWarning, match=r"torch_of_another_day.*make ops"):
        ops.install()
    assert ops.backend() == "portable"


def test_an_operator_that_is_not_portable_names_itself_and_the_way_out():
    module = extension.PortableExtension()
    with pytest.raises(extension.MissingOperatorError, match=r"`carafe_forward`.*`make ops`"):
        module.carafe_forward(torch.zeros(1), group_size=1)


def test_python_gets_honest_answers_about_the_module():
    module = extension.PortableExtension()
    assert not hasattr(module, "__path__")
    assert module.__name__ == NAME


def test_every_portable_operator_stands_under_mmcvs_name_for_it():
    module = extension.PortableExtension()
    assert {name for name in extension.OPERATORS if getattr(module, name).__name__ != name} == set()
    asked_of_mmcv = {"nms", "softnms"} | {
        f"{name}_{way}"
        for name in ("roi_align", "ms_deform_attn", "sigmoid_focal_loss")
        for way in ("forward", "backward")
    }
    assert asked_of_mmcv <= set(extension.OPERATORS)


def test_reports_of_the_environment_say_that_nothing_was_compiled(nothing_installed, monkeypatch):
    without_compiled(monkeypatch)
    ops.install()
    assert "portable" in sys.modules[NAME].get_compiler_version()
    assert "portable" in sys.modules[NAME].get_compiling_cuda_version()


@pytest.fixture
def stand_in_kernels(monkeypatch):
    """torchvision's kernels, replaced by ones that only note how they are called."""
    calls = []

    def note(name, result):
        return lambda *args: calls.append((name, args)) or result

    kernels = SimpleNamespace(
        nms=note("nms", torch.tensor([0])),
        roi_align=note("roi_align", torch.ones(1, 2, 3, 3)),
        _roi_align_backward=note("_roi_align_backward", torch.ones(1, 2, 4, 4)),
    )
    monkeypatch.setattr(torchvision_kernels, "is_preferred", lambda operator, tensor: True)
    monkeypatch.setattr(torch.ops, "torchvision", kernels, raising=False)
    return calls


def test_torchvisions_kernels_are_used_where_they_serve(stand_in_kernels):
    module = extension.PortableExtension()
    boxes, scores = torch.tensor([[0.0, 0, 1, 1]]).half(), torch.ones(1).half()
    assert module.nms(boxes, scores, iou_threshold=0.3, offset=0).tolist() == [0]
    name, (given_boxes, _, threshold) = stand_in_kernels[0]
    assert name == "nms"
    assert given_boxes.dtype == torch.float32
    assert threshold == torch.tensor(0.3).item()  # the float32 that mmcv compares with
    features, rois = torch.zeros(1, 2, 4, 4), torch.zeros(1, 5)
    output, empty = torch.zeros(1, 2, 3, 3), torch.zeros(0)
    options = {
        "aligned_height": 3,
        "aligned_width": 3,
        "spatial_scale": 0.5,
        "sampling_ratio": 0,
        "pool_mode": 1,
        "aligned": True,
    }
    module.roi_align_forward(features, rois, output, empty, empty, **options)
    assert output.eq(1).all()
    module.roi_align_backward(output, rois, empty, empty, features, **options)
    assert features.eq(1).all()
    assert stand_in_kernels[1][1][2:] == (0.5, 3, 3, 0, True)
    assert stand_in_kernels[2][1][2:] == (0.5, 3, 3, 1, 2, 4, 4, 0, True)


def test_what_torchvision_lacks_stays_portable(stand_in_kernels):
    module = extension.PortableExtension()
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9]])
    assert module.nms(boxes, torch.tensor([0.5, 0.6]), iou_threshold=0.3, offset=1).tolist() == [1]
    output, index = torch.zeros(1, 1, 1, 1), [torch.zeros(1, 1, 1, 1) for _ in range(2)]
    peak = torch.zeros(1, 1, 4, 4)
    peak[0, 0, 2, 2] = 5
    module.roi_align_forward(peak, torch.tensor([[0.0, 2, 2, 3, 3]]), output, *index, 1, 1, 1.0, 1, 0, True)
    assert output.item() == 5
    assert stand_in_kernels == []


def test_a_torchvision_without_cuda_does_not_serve_a_gpu(monkeypatch):
    monkeypatch.setattr(torchvision_kernels, "is_importable", lambda: True)
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda operator, key: key == "CPU")
    assert torchvision_kernels.is_preferred("nms", torch.zeros(1))
    assert not torchvision_kernels.is_preferred("nms", SimpleNamespace(device=torch.device("cuda")))


def test_torchvision_pools_on_a_gpu_only_where_it_is_the_faster_one(monkeypatch):
    monkeypatch.setattr(torchvision_kernels, "is_importable", lambda: True)
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda operator, key: True)
    assert torchvision_kernels.is_preferred("roi_align", SimpleNamespace(device=torch.device("cuda")))
    assert not torchvision_kernels.is_preferred("roi_align", torch.zeros(1))


def test_the_compiled_operators_were_compared_too():
    if ops.backend() != "compiled":
        pytest.skip(
            "no compiled mmcv._ext here: `make ops` builds it, and every test of an operator then runs on it"
        )
    assert sys.modules[NAME].__file__
