import cv2
import numpy as np
import pytest

from ibkd_mm.data_check import images
from ibkd_mm.data_check.images import ImageFile, read_images
from ibkd_mm.utils import parallel, progress


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(8):
        cv2.imwrite(str(tmp_path / f"{n}.png"), rng.integers(0, 255, (4 + n, 6, 3), dtype=np.uint8))
    return [ImageFile(str(tmp_path / f"{n}.png")) for n in range(8)] + [ImageFile(str(tmp_path / "none.png"))]


def test_several_processes_find_what_one_finds(files, monkeypatch):
    alone = read_images(files, workers=1)
    assert [alone[file].height for file in files] == [*range(4, 12), 0]
    assert alone[files[-1]].problem == "missing"
    monkeypatch.setattr(parallel, "_ITEMS_PER_WORKER", 1)
    assert read_images(files, workers=2) == alone


def test_every_file_is_read_once(files, monkeypatch):
    read = []
    real = images.read_image
    monkeypatch.setattr(images, "read_image", lambda file: read.append(file) or real(file))
    assert len(read_images([*files, *files])) == 9
    assert read == files


def test_backend_arguments_may_be_of_any_type(files):
    unhashable = ImageFile(files[0].path, backend={"backend": "local", "more": {"nested": []}})
    plain = ImageFile(files[1].path, backend={"backend": "local"})
    assert read_images([plain])[plain].height == 5
    with pytest.raises(TypeError, match="LocalBackend"):  # which takes no arguments
        read_images([unhashable])


def test_progress_is_written_to_stderr(files, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY", -1.0)
    read_images(files, workers=1)
    written = capsys.readouterr()
    assert written.out == ""
    assert "Reading images: 100%, 9 of 9" in written.err


def test_nothing_to_read(capsys):
    assert read_images([]) == {}
    assert capsys.readouterr().err == ""
