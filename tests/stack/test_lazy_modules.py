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


def test_what_was_put_off_is_imported_when_it_is_called(package: Path) -> None:
    given: dict = {}
    with lazy_modules("slow_package", "slow_package.inner"):
        exec("import slow_package.inner as later\nfrom slow_package.inner import Doubled, Missing", given)
    assert "slow_package" not in sys.modules
    assert given["Doubled"](4).n == given["later"].Doubled(4).n == 8
    assert sys.modules["slow_package.inner"].__file__ == str(package / "inner" / "__init__.py")
    assert given["Doubled"].kind == 3
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        given["Missing"]()


def test_what_is_there_already_is_left_alone(package: Path) -> None:
    import slow_package.inner as real

    with lazy_modules("slow_package", "slow_package.inner"):
        assert sys.modules["slow_package.inner"] is real
    assert sys.modules["slow_package.inner"] is real


def test_what_is_not_installed_is_still_missed() -> None:
    with lazy_modules("no_such_package"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_package")


def test_after_an_error_nothing_stands_in(package: Path) -> None:
    with pytest.raises(OSError, match="disk"), lazy_modules("slow_package"):
        raise OSError("disk")
    assert "slow_package" not in sys.modules


def test_lanes_are_drawn_though_their_package_is_imported_late() -> None:
    program = """
import sys
import ibkd_mm
from mmdet.datasets.transforms.generate_line import LineString
assert not {'imgaug', 'imagecorruptions', 'scipy.stats'} & set(sys.modules)
print(LineString([(0, 0), (3, 4)]).length)
assert 'imgaug' in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "5.0\n"


def test_mmrazors_old_distiller_finds_the_distribution_that_it_needs() -> None:
    from mmrazor.models.distillers import ofd_distiller

    assert ofd_distiller.norm.cdf(0) == 0.5
