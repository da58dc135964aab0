"""Safe unpacking of archives."""

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
from typing import Any, NamedTuple

from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_folder

_CHUNK = 1 << 20
_MAX_RATIO, _ALWAYS_ALLOWED = 1000, 10**9  # of the archive's size, or bytes if that is more
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, RuntimeError, ValueError)


class _Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", "link" or "device"
    target: str  # path in the archive that a link points to
    open: Callable[[], Any]


class _MemberError(Exception):
    """Why a member is refused, as the end of a sentence."""


def unpack(archive: Path, folder: Path, limit: int = 200 * 10**9) -> Path:
    """Unpack a zip or tar archive into `folder`, which must be new or empty, and return `folder`.

    Refuse the archive, and write nothing, if a member or link leads out of the folder, a member is a device,
    or if the contents exceed `limit` bytes or a thousand times the archive's size. A link to an earlier file
    of the archive becomes a hard link.
    """
    if not archive.is_file():
        raise UserError(f"Expected an archive at {archive}, found none.")
    limit = min(limit, max(_ALWAYS_ALLOWED, _MAX_RATIO * archive.stat().st_size))
    with atomic_folder(folder) as draft:
        try:
            _write_all(archive, draft, limit)
        except _DAMAGE as error:
            raise UserError(f"{archive} is damaged, cut short or encrypted ({error}).") from error
        except OSError as error:
            if error.errno is None:  # gzip and bz2 report damage so
                raise UserError(f"{archive} is damaged or cut short ({error}).") from error
            raise UserError(f"Cannot unpack {archive}: {error.strerror} ({error.filename}).") from error
    return folder


def _write_all(archive: Path, draft: Path, limit: int) -> None:
    with archive.open("rb") as file:
        read_members = _read_zip if file.read(2) == b"PK" else _read_tar
    for member in read_members(archive):
        try:
            limit -= _write(member, draft, limit)
        except _MemberError as reason:
            text = f"{archive} is refused: its member {member.name!r} {reason}. Nothing was unpacked."
            raise UserError(text) from None


def _read_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode, target = stat.S_IFMT(info.external_attr >> 16), ""
            kind = "file" if mode in (0, stat.S_IFREG) else "device"
            if info.filename.endswith("/"):
                kind = "folder"
            elif mode == stat.S_IFLNK:
                with opened.open(info) as file:
                    target = file.read(4096).decode(errors="replace")
                kind, target = "link", _resolve_link(info.filename, target)
            yield _Member(info.filename, kind, target, partial(opened.open, info))


def _read_tar(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            kind, target = "folder" if info.isdir() else "file" if info.isreg() else "device", ""
            if info.issym():
                kind, target = "link", _resolve_link(info.name, info.linkname)
            elif info.islnk():
                kind, target = "link", info.linkname
            yield _Member(info.name, kind, target, partial(opened.extractfile, info))
        file: Any = opened.fileobj
        file.seek(opened.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile accepts a truncated archive
            raise tarfile.ReadError("its end is missing")
        while file.read(_CHUNK):  # to the end, where a compressed file has its checksum
            pass


def _resolve_link(name: str, target: str) -> str:
    """Return the target of a symbolic link as a path from the archive's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _write(member: _Member, draft: Path, limit: int) -> int:
    """Write one member and return its size. Links become hard links, so that no path leads through a link."""
    path = _path_inside(member.name, draft)
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return 0
    if path.exists():
        raise _MemberError("occurs twice")
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.kind == "link":
        target = _path_inside(member.target, draft)
        if not target.is_file():
            raise _MemberError("is a link to something else than an earlier file of the archive")
        os.link(target, path)
        return 0
    if member.kind != "file":
        raise _MemberError("is neither a file, a folder nor a link")
    with path.open("xb") as file, member.open() as source:
        while chunk := source.read(_CHUNK):
            if file.tell() + len(chunk) > limit:
                raise _MemberError("makes the contents larger than allowed")
            file.write(chunk)
        return file.tell()


def _path_inside(name: str, draft: Path) -> Path:
    """Return the path of a member; backslashes separate folders too, as in archives made on Windows."""
    parts = name.replace("\\", "/").split("/")
    if (name and not parts[0]) or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise _MemberError("leads out of the folder")
    return draft.joinpath(*(part for part in parts if part not in ("", ".")))
