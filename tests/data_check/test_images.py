import io

import cv2
import mmcv
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from ibkd_mm.data_check.images import DecodedImage, ImageFile, find_image_faults, read_image


def _noise(width=40, height=24):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def _data(kind, **settings):
    file = io.BytesIO()
    Image.fromarray(_noise()).save(file, kind, **settings)
    return file.getvalue()


DATA = {
    "JPEG": _data("JPEG", quality=90),
    "progressive JPEG": _data("JPEG", quality=90, progressive=True),
    "PNG": _data("PNG"),
}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "image"

    def write_and_read(data, is_map=False):
        path.write_bytes(data)
        return read_image(ImageFile(str(path), is_map))

    return write_and_read


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_a_whole_image_has_the_size_that_the_loader_sees(read, kind):
    data = _data(kind)
    found = read(data)
    assert (found.problem, found.width, found.height) == ("", 40, 24)
    assert mmcv.imfrombytes(data).shape[:2] == (24, 40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_image_has_the_size_that_the_loader_gives_it(read, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _data(kind, exif=exif)
    height, width = mmcv.imfrombytes(data).shape[:2]
    assert read(data).size(apply_exif=True) == (width, height)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_only_pillow_would_turn_is_as_it_is_stored(read, kind):
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    data = _data(kind, xmp=xmp) if kind == "JPEG" else _data(kind, pnginfo=info)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert mmcv.imfrombytes(data).shape[:2] == (24, 40)
    assert read(data).size(apply_exif=True) == (40, 24)


@pytest.mark.parametrize("name", DATA)
@settings(max_examples=60)
@given(lost=st.floats(0, 1), zeros=st.booleans())
def test_a_file_cut_anywhere_is_found_even_if_filled_up_with_zeros(read, name, lost, zeros):
    """PNG ends with a checksum of four bytes, without which nothing is lost."""
    whole = DATA[name]
    spare = 4 if name == "PNG" else 0
    kept = int((len(whole) - 1 - spare) * (1 - lost))
    found = read(whole[:kept] + bytes(len(whole) - kept if zeros else 0))
    assert found.problem in ("truncated", "undecodable")


@settings(deadline=None)
@given(st.sampled_from(sorted(DATA)), st.floats(0, 1), st.binary(min_size=1, max_size=40))
def test_no_damage_raises(read, name, where, noise):
    """Behind the header: one that says the image is huge has memory for it set aside."""
    data = DATA[name]
    place = 200 + int(where * (len(data) - 200))
    assert isinstance(read(data[:place] + noise + data[place + len(noise) :]), DecodedImage)


def test_opencv_is_asked_where_pillow_knows_no_format(read):
    wide = np.float32(_noise()) / 255
    written, data = cv2.imencode(".hdr", wide)
    assert written
    assert (read(data.tobytes()).problem, read(data.tobytes()).width) == ("", 40)


def test_pillow_alone_is_not_enough_where_opencv_must_decode(read):
    data = _data("ICO", sizes=[(40, 24)])
    assert mmcv.imfrombytes(data) is None
    assert read(data).problem == "undecodable"


def test_digests_are_of_the_bytes(read):
    first, second = read(DATA["JPEG"]), read(DATA["JPEG"] + b"\0")
    assert first.problem == second.problem == ""
    assert first.digest == read(DATA["JPEG"]).digest != second.digest
    assert len(first.digest) == 16


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("L", [[0, 3], [255, 3]], (0, 3, 255)),
        ("P", [[0, 3], [2, 3]], (0, 2, 3)),
        ("I;16", [[0, 300], [7, 7]], (0, 7, 300)),
        ("RGB", [[[1, 2, 3]]], ()),
    ],
)
def test_labels_of_a_map(read, mode, values, expected):
    kind = np.uint16 if mode == "I;16" else np.uint8
    image = Image.fromarray(np.array(values, kind))
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    file = io.BytesIO()
    image.save(file, "PNG")
    assert read(file.getvalue(), is_map=True).labels == expected


def test_a_size_that_nobody_said_is_not_judged():
    image = DecodedImage("", "", 40, 24, orientation=6)
    assert find_image_faults(image, None, applies_exif=False) == []
    assert find_image_faults(image, None, applies_exif=True)[0][0] == "image-orientation"
    assert find_image_faults(image, (24, 40), applies_exif=True) == []
    assert find_image_faults(image, (40, 24), applies_exif=False) == []
