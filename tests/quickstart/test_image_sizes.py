"""Sizes as the loader gives them, and as the check finds them, without decoding."""

from pathlib import Path

import mmcv
import pytest
from PIL import Image
from PIL import ImageFile as PILImageFile

from ibkd_mm.data_check.images import ImageFile, read_image
from ibkd_mm.quickstart import user_data
from ibkd_mm.quickstart.user_data import size_of


def write(kind: str, orientation: int | None = None) -> Path:
    file, exif = Path("picture"), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 24), "red").save(file, kind, exif=exif)
    return file


@pytest.fixture
def _nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PILImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(user_data, "read_image", refuse)


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_turned_image_has_the_size_that_the_loader_gives_it(kind: str, orientation: int) -> None:
    file = write(kind, orientation)
    height, width = mmcv.imread(file).shape[:2]
    assert size_of(file) == (width, height) == read_image(ImageFile(str(file))).size(apply_exif=True)


@pytest.mark.usefixtures("_nothing_is_decoded")
@pytest.mark.parametrize(
    ("kind", "orientation", "size"),
    [
        ("JPEG", None, (40, 24)),
        ("JPEG", 6, (24, 40)),
        ("PNG", None, (40, 24)),
        ("PNG", 6, (24, 40)),
        ("TIFF", 6, (24, 40)),
        ("WEBP", 6, (40, 24)),
        ("BMP", None, (40, 24)),
    ],
)
def test_only_the_header_is_read(kind: str, orientation: int | None, size: tuple[int, int]) -> None:
    assert size_of(write(kind, orientation)) == size


def test_exif_behind_the_pixels_of_a_png_counts_as_it_does_for_the_check() -> None:
    file = write("PNG", 6)
    data = file.read_bytes()
    place = data.index(b"eXIf") - 4
    chunk = data[place : place + 12 + int.from_bytes(data[place : place + 4], "big")]
    file.write_bytes(data.replace(chunk, b"")[:-12] + chunk + data[-12:])  # before the last, IEND
    assert "exif" not in Image.open(file).info
    assert size_of(file) == read_image(ImageFile(str(file))).size(apply_exif=True) == (24, 40)


def test_an_unreadable_image_has_no_size() -> None:
    file = write("JPEG")
    whole = file.read_bytes()
    for data in (b"", b"no picture", whole[:20]):
        file.write_bytes(data)
        assert size_of(file) == (0, 0)
        assert read_image(ImageFile(str(file))).problem in ("truncated", "undecodable")
    assert size_of(Path("nowhere.jpg")) == (0, 0)
    file.write_bytes(whole[:-30])  # its header is whole, and the check reads on
    assert size_of(file) == (40, 24)
    assert read_image(ImageFile(str(file))).problem == "truncated"
