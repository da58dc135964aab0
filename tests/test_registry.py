"""Our registries are children of mmengine's, reachable from a config that imports nothing but ibkd_mm."""

import subprocess
import sys
import uuid

import pytest
from mmengine import registry as root
from mmengine.registry import DefaultScope, Registry

from ibkd_mm import registry

NAMES = [name for name, value in vars(registry).items() if isinstance(value, Registry)]


@pytest.fixture
def thing(request):
    """Something registered with one of our registries, under a name that nobody else has."""
    ours = getattr(registry, request.param)
    name = f"Thing{uuid.uuid4().hex}"
    cls = type(name, (), {"__init__": lambda self, value=0: setattr(self, "value", value)})
    ours.register_module(name=name, module=cls)
    yield request.param, name, cls
    del ours._module_dict[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_child_of_mmengines(name):
    ours, theirs = getattr(registry, name), getattr(root, name)
    assert ours.parent is theirs
    assert (ours.scope, ours.name) == ("ibkd_mm", theirs.name)
    assert theirs.children["ibkd_mm"] is ours


# Those whose `build` is mmengine's plain one, with arguments of any kind.
PLAIN = ["METRICS", "TASK_UTILS", "TRANSFORMS", "HOOKS", "DATASETS", "MODELS", "VISBACKENDS"]


@pytest.mark.parametrize("thing", PLAIN, indirect=True)
def test_built_by_its_full_name_in_the_scope_of_mmdet(thing):
    registry_name, name, cls = thing
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = getattr(root, registry_name).build({"type": f"ibkd_mm.{name}", "value": 3})
    assert type(built) is cls
    assert built.value == 3


@pytest.mark.parametrize("thing", PLAIN, indirect=True)
def test_built_by_its_plain_name_in_our_scope(thing):
    registry_name, name, cls = thing
    with DefaultScope.overwrite_default_scope("ibkd_mm"):
        assert type(getattr(root, registry_name).build({"type": name})) is cls
    assert type(getattr(registry, registry_name).build({"type": name})) is cls


@pytest.mark.parametrize("thing", NAMES, indirect=True)
def test_found_from_the_root(thing):
    registry_name, name, cls = thing
    assert getattr(root, registry_name).get(f"ibkd_mm.{name}") is cls


@pytest.mark.parametrize("thing", ["MODELS"], indirect=True)
def test_not_found_by_its_plain_name_in_the_scope_of_mmdet(thing):
    _, name, _ = thing
    with DefaultScope.overwrite_default_scope("mmdet"), pytest.raises(KeyError, match=name):
        root.MODELS.build({"type": name})


def test_custom_imports_are_all_that_a_config_needs(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "custom_imports = dict(imports=['ibkd_mm.register_all'])\n"
        "default_scope = 'mmdet'\n"
        "transform = dict(type='PackDetInputs')\n"
        "dataset = dict(type='ibkd_mm.ShapesDataset')\n"
    )
    code = (
        "import sys\n"
        "from mmengine.config import Config\n"
        "from mmengine.registry import DATASETS, MODELS, init_default_scope\n"
        "config = Config.fromfile(sys.argv[1])\n"
        "init_default_scope(config.default_scope)\n"
        "print(DATASETS.get(config.dataset.type).__module__)\n"
        "print(MODELS.get('mmrazor.SingleTeacherDistill').__name__)\n"
        "print(MODELS.get('mmdet.MaskRCNN').__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, config], capture_output=True, text=True, cwd=tmp_path)
    lines = done.stdout.splitlines()[-3:]
    assert lines[0].startswith("ibkd_mm.datasets.shapes"), done.stderr
    assert lines[1:] == ["SingleTeacherDistill", "MaskRCNN"]
