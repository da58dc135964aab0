"""Archives unpack only inside their folder, or not at all."""

import io
import random
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ibkd_mm.errors import UserError
from ibkd_mm.utils import archive as module
from ibkd_mm.utils.archive import unpack

Member = tuple[str, Any]
"""A name, and the content of a file, None for a folder, or a `TarInfo.type` with where it leads."""


def _tar(path: Path, members: list[Member], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, what in members:
            info = tarfile.TarInfo(name)
            content = what if isinstance(what, bytes) else b""
            info.size, info.mode = len(content), 0o7777
            if what is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(what, tuple):
                info.type, info.linkname = what
            tar.addfile(info, io.BytesIO(content))
    return path


def _zip(path: Path, members: list[Member]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, what in members:
            info = zipfile.ZipInfo(name + "/" * (what is None))
            info.filename = name + "/" * (what is None)  # unchanged: ZipInfo corrects it
            if isinstance(what, tuple):
                kind = stat.S_IFLNK if what[0] == tarfile.SYMTYPE else stat.S_IFIFO
                info.external_attr, what = (kind | 0o777) << 16, what[1].encode()
            file.writestr(info, what or b"")
    return path


def _files(folder: Path) -> dict[str, bytes]:
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


def _nothing_but(folder: Path, *names: str) -> bool:
    return {path.name for path in folder.iterdir()} == {*names, ".out.lock"}


GOOD: list[Member] = [("d", None), ("d/a.txt", b"one"), ("./d/e/f.txt", b"two" * 1000), ("empty", b"")]


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz", "w:bz2"])
def test_files_and_folders_are_unpacked(tmp_path: Path, mode: str) -> None:
    made = _zip(tmp_path / "a", GOOD) if mode == "zip" else _tar(tmp_path / "a", GOOD, mode)
    assert unpack(made, tmp_path / "out") == tmp_path / "out"
    assert _files(tmp_path / "out") == {"d/a.txt": b"one", "d/e/f.txt": b"two" * 1000, "empty": b""}
    assert (tmp_path / "out" / "d/a.txt").stat().st_mode & 0o7111 == 0
    assert _nothing_but(tmp_path, "a", "out")


def test_links_to_files_of_the_archive_become_hard_links(tmp_path: Path) -> None:
    links: list[Member] = [
        ("d/a", b"one"),
        ("d/e/soft", (tarfile.SYMTYPE, "../a")),
        ("hard", (tarfile.LNKTYPE, "d/a")),
    ]
    unpack(_tar(tmp_path / "a.tar", links), tmp_path / "out")
    assert _files(tmp_path / "out") == {"d/a": b"one", "d/e/soft": b"one", "hard": b"one"}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("write", [_zip, _tar])
@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("/tmp/evil", b"x")], "leads out"),
        ([("../evil", b"x")], "leads out"),
        ([("d/../../evil", b"x")], "leads out"),
        ([("d/..", None)], "leads out"),
        ([("C:\\evil", b"x")], "leads out"),
        ([("c:evil", b"x")], "leads out"),
        ([("..\\evil", b"x")], "leads out"),
        ([("\\evil", b"x")], "leads out"),
        ([("l", (tarfile.SYMTYPE, "/etc")), ("l/evil", b"x")], "leads out"),
        ([("l", (tarfile.SYMTYPE, "../evil"))], "leads out"),
        ([("d/l", (tarfile.SYMTYPE, "../../evil"))], "leads out"),
        ([("l", (tarfile.SYMTYPE, "."))], "is a link to something else"),
        ([("d", None), ("l", (tarfile.SYMTYPE, "d")), ("l/a", b"x")], "is a link to something else"),
        ([("l", (tarfile.SYMTYPE, "l"))], "is a link to something else"),
        ([("p", (tarfile.FIFOTYPE, ""))], "is neither a file"),
        ([("a", b"1"), ("./a", b"2")], "occurs twice"),
        ([("a", b"1"), ("l", (tarfile.SYMTYPE, "a")), ("l", b"2")], "occurs twice"),
    ],
)
def test_a_member_that_leads_out_is_named_and_nothing_is_written(
    tmp_path: Path, write: Any, members: list[Member], why: str
) -> None:
    made = write(tmp_path / "a", [("good.txt", b"good"), *members])
    with pytest.raises(UserError, match=r"a is refused: its member '.*' " + why) as error:
        unpack(made, tmp_path / "out")
    assert any(repr(name)[:-1] in str(error.value) for name, _ in members)
    assert _nothing_but(tmp_path, "a")


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "d/../../secret"])
def test_a_hard_link_that_leads_out_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_bytes(b"mine")
    made = _tar(tmp_path / "a", [("l", (tarfile.LNKTYPE, target))])
    with pytest.raises(UserError, match="'l' leads out of the folder"):
        unpack(made, tmp_path / "out")
    assert _nothing_but(tmp_path, "a", "secret")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(UserError, match="'null' is neither a file, a folder nor a link"):
        unpack(_tar(tmp_path / "a", [("null", (kind, ""))]), tmp_path / "out")
    assert _nothing_but(tmp_path, "a")


_PART = st.sampled_from(["..", ".", "", "a", "b", "C:", "~", "a:b", "\\", "..\\", "\x01", "é", "con", " "])
_NAME = st.lists(_PART, min_size=1, max_size=5).map("/".join) | st.text(min_size=1, max_size=12)
_WHAT = st.just(b"x") | st.none() | st.tuples(st.sampled_from([tarfile.SYMTYPE, tarfile.LNKTYPE]), _NAME)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_NAME, _WHAT), min_size=1, max_size=4), st.sampled_from([_zip, _tar]))
@example([("a", (tarfile.SYMTYPE, "..")), ("a/evil", b"x")], _tar)
def test_archives_unpack_only_inside_their_folder(tmp_path: Path, members: list[Member], write: Any) -> None:
    """Whatever the members are called and wherever their links lead."""
    room = tmp_path / "room"
    room.mkdir(exist_ok=True)
    try:
        made = write(tmp_path / "a", members)
    except (ValueError, UnicodeError):
        return  # not even an archive can have such a name
    try:
        unpack(made, room / "out")
    except UserError:
        assert {path.name for path in room.iterdir()} <= {".out.lock"}
    else:
        assert {path.name for path in room.iterdir()} == {".out.lock", "out"}
        for path in (room / "out").rglob("*"):
            assert path.resolve() == path
            assert path.is_dir() or path.read_bytes() == b"x"
        shutil.rmtree(room / "out")
    assert {path.name for path in tmp_path.iterdir()} <= {"a", "room"}


@pytest.mark.parametrize("write", [_zip, lambda path, members: _tar(path, members, "w:bz2")])
def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    made = write(tmp_path / "a", [("zeros", bytes(8_000_000))])
    assert unpack(made, tmp_path / "out", limit=8_000_000).is_dir()
    with pytest.raises(UserError, match="'zeros' makes the contents larger than allowed"):
        unpack(made, tmp_path / "less", limit=7_999_999)
    monkeypatch.setattr(module, "_ALWAYS_ALLOWED", 0)
    monkeypatch.setattr(module, "_MAX_RATIO", 8_000_000 // made.stat().st_size)
    with pytest.raises(UserError, match="'zeros' makes the contents larger than allowed"):
        unpack(made, tmp_path / "less")
    assert not (tmp_path / "less").exists()


def test_a_wrong_size_is_noticed(tmp_path: Path) -> None:
    made = _zip(tmp_path / "a", [("zeros", bytes(50_000))])
    content = made.read_bytes()
    made.write_bytes(content.replace((50_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match="is damaged"):
        unpack(made, tmp_path / "out")
    assert _nothing_but(tmp_path, "a")


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.95])
def test_an_archive_cut_short_leaves_nothing(tmp_path: Path, mode: str, share: float) -> None:
    members: list[Member] = [(f"{i}.bin", bytes([i, 7, i]) * 5000) for i in range(20)]
    made = _zip(tmp_path / "a", members) if mode == "zip" else _tar(tmp_path / "a", members, mode)
    whole = made.read_bytes()
    made.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="a is damaged"):
        unpack(made, tmp_path / "out")
    assert _nothing_but(tmp_path, "a")


def test_a_tar_cut_between_two_members_is_not_whole(tmp_path: Path) -> None:
    made = _tar(tmp_path / "a", [("one", b"1"), ("two", b"2")])
    made.write_bytes(made.read_bytes()[:1024])
    with pytest.raises(UserError, match=r"a is damaged.*its end is missing"):
        unpack(made, tmp_path / "out")


@pytest.mark.parametrize("mode", ["zip", "w:gz", "w:xz", "w:bz2"])
def test_a_changed_byte_is_noticed_by_the_checksum(tmp_path: Path, mode: str) -> None:
    content = random.Random(0).randbytes(20_000)
    members: list[Member] = [("a", content)]
    made = _zip(tmp_path / "a", members) if mode == "zip" else _tar(tmp_path / "a", members, mode)
    whole = bytearray(made.read_bytes())
    whole[len(whole) // 2] ^= 1
    made.write_bytes(whole)
    with pytest.raises(UserError, match="a is damaged"):
        unpack(made, tmp_path / "out")
    assert _nothing_but(tmp_path, "a")


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_bytes(b"mine")
    with pytest.raises(UserError, match="to be new or an empty folder, found a folder with files"):
        unpack(_zip(tmp_path / "a", GOOD), tmp_path / "out")
    assert _files(tmp_path / "out") == {"mine": b"mine"}
    with pytest.raises(UserError, match="Expected an archive at"):
        unpack(tmp_path / "b", tmp_path / "other")
