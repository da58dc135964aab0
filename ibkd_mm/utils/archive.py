"""Archives, unpacked inside their folder or not at all."""

import os
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, NamedTuple

from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_folder

_CHUNK = 1 << 20
_RATIO, _ALWAYS = 1000, 10**9
"""An archive may unpack to so many times its size, or to so many bytes if that is more."""
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, RuntimeError, ValueError)


class _Member(NamedTuple):
    name: str
    kind: str  # file, folder, link, or what else it is
    target: str
    open: Callable[[], IO[bytes] | None]


class _MemberError(Exception):
    """Why a member is not unpacked."""


def unpack(archive: Path, folder: Path, limit: int = 200 * 10**9) -> Path:
    """Unpack a zip or tar archive into `folder`, which is to be free or empty, and return `folder`.

    Refused, with nothing left behind, is an archive with a member or a link that leads out of the folder,
    with a device, or of more than `limit` bytes or a thousand times its own size. A link to a file inside
    becomes another name of that file.
    """
    if not archive.is_file():
        raise UserError(f"There is no archive {archive}.")
    limit = min(limit, max(_ALWAYS, _RATIO * archive.stat().st_size))
    with atomic_folder(folder) as draft:
        try:
            _write_all(archive, draft, limit)
        except _DAMAGE as error:
            raise UserError(f"{archive} is damaged, cut short or encrypted ({error}).") from error
        except OSError as error:
            if error.errno is None:  # how gzip and bz2 say that they are damaged
                raise UserError(f"{archive} is damaged or cut short ({error}).") from error
            raise UserError(f"Cannot unpack {archive}: {error.strerror} ({error.filename}).") from error
    return folder


def _write_all(archive: Path, draft: Path, limit: int) -> None:
    with archive.open("rb") as file:
        members = _of_zip if file.read(2) == b"PK" else _of_tar
    written = 0
    for member in members(archive):
        try:
            written += _write(member, draft, limit - written)
        except _MemberError as why:
            raise UserError(
                f"{archive} is refused: its member {member.name!r} {why}. Nothing was unpacked."
            ) from None


def _of_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as whole:
        for info in whole.infolist():
            form, target = stat.S_IFMT(info.external_attr >> 16), ""
            kind = "file" if form in (0, stat.S_IFREG) else "device"
            if info.filename.endswith("/"):
                kind = "folder"
            elif form == stat.S_IFLNK:
                with whole.open(info) as file:
                    kind, target = "link", _beside(info.filename, file.read(4096).decode(errors="replace"))
            yield _Member(info.filename, kind, target, partial(whole.open, info))


def _of_tar(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as whole:
        for info in whole:
            kind, target = "folder" if info.isdir() else "file" if info.isreg() else "device", ""
            if info.issym():
                kind, target = "link", _beside(info.name, info.linkname)
            elif info.islnk():
                kind, target = "link", info.linkname
            yield _Member(info.name, kind, target, partial(whole.extractfile, info))
        _check_end(whole)


def _check_end(whole: tarfile.TarFile) -> None:
    """Want the zeros that end a tar; tarfile takes any block that is no header, or none, for the end."""
    file: Any = whole.fileobj
    file.seek(whole.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    while file.read(_CHUNK):  # so that a compressed file comes to its own checksum
        pass


def _beside(name: str, target: str) -> str:
    """Where a symbolic link leads, seen from the archive's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _write(member: _Member, draft: Path, room: int) -> int:
    """Write one member and return its size. Links become names of files: no path ever leads through one."""
    path = _inside(member.name, draft)
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return 0
    if path.exists():
        raise _MemberError("is there twice")
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.kind == "link":
        target = _inside(member.target, draft)
        if not target.is_file():
            raise _MemberError("is a link, and not to a file that comes before it in the archive")
        os.link(target, path)
        return 0
    if member.kind != "file":
        raise _MemberError("is neither a file, a folder nor a link")
    with path.open("xb") as file:
        return _copy(member.open(), file, room)


def _inside(name: str, draft: Path) -> Path:
    """The member's place; a backslash parts folders too, as in archives made on Windows."""
    parts = name.replace("\\", "/").split("/")
    if (name and not parts[0]) or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise _MemberError("leads out of the folder")
    return draft.joinpath(*(part for part in parts if part not in ("", ".")))


def _copy(source: Any, file: IO[bytes], room: int) -> int:
    written = 0
    with source:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > room:
                raise _MemberError("makes it larger than it may be, and far larger than it looks")
            file.write(chunk)
    return written
