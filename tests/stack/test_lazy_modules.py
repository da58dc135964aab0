import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from ibkd_mm.stack.lazy_modules import lazy_modules


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "slow_package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "__init__.py").write_text(
        "class Doubled:\n    kind = 3\n    def __init__(self, n): self.n = 2 * n\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "slow_package"]:
        del sys.modules[name]


def test_a_lazy_module_is_imported_when_a_function_of_it_is_called(package: Path) -> None:
    names: dict = {}
    with lazy_modules("slow_package", "slow_package.inner"):
        exec("import slow_package.inner as later\nfrom slow_package.inner import Doubled, Missing", names)
    assert "slow_package" not in sys.modules
    assert names["Doubled"](4).n == names["later"].Doubled(4).n == 8
    assert sys.modules["slow_package.inner"].__file__ == str(package / "inner" / "__init__.py")
    assert names["Doubled"].kind == 3
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        names["Missing"]()


def test_an_imported_module_is_not_replaced(package: Path) -> None:
    import slow_package.inner as real

    with lazy_modules("slow_package", "slow_package.inner"):
        assert sys.modules["slow_package.inner"] is real
    assert sys.modules["slow_package.inner"] is real


def test_a_package_that_is_not_installed_is_still_missing() -> None:
    with lazy_modules("no_such_package"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_package")


def test_stand_ins_are_removed_after_an_error(package: Path) -> None:
    with pytest.raises(OSError, match="disk"), lazy_modules("slow_package"):
        raise OSError("disk")
    assert "slow_package" not in sys.modules


def test_mmdets_lane_transforms_import_their_package_when_they_run() -> None:
    program = """
import sys
import ibkd_mm.register_all
from mmdet.datasets.transforms.generate_line import LineString
assert not {'imgaug', 'imagecorruptions', 'scipy.stats'} & set(sys.modules)
print(LineString([(0, 0), (3, 4)]).length)
assert 'imgaug' in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "5.0\n"


def test_mmrazors_old_distiller_finds_scipy_stats() -> None:
    from mmrazor.models.distillers import ofd_distiller

    assert ofd_distiller.norm.cdf(0) == 0.5
