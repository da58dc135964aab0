"""Downloads that are whole or not there: gone on with where they were cut, verified, made by one process."""

import json
import shutil
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import commit, file_lock
from ibkd_mm.utils.digest import hash_of_file
from ibkd_mm.utils.progress import Progress
from ibkd_mm.version import __version__

_TRIES, _PAUSE, _TIMEOUT, _CHUNK = 3, 1.0, 30.0, 1 << 20
_PASSING = (408, 416, 429, 500, 502, 503, 504)
"""Refusals after which another try may do; 416 where what we have is longer than the file is now."""


def download(url: str, path: Path, sha256: str | None = None) -> Path:
    """Fetch `url` to `path`, unless it is there, and return `path`.

    What a former try left is gone on from where the server can do that and the file is still the same. Of
    several processes one fetches, the others wait.

    Args:
        url: http or https.
        path: where the file is to be; until it is whole and verified it stands beside, as `path.part`.
        sha256: the file's hash in hexadecimal, or its first digits.
    """
    if path.is_file():
        return path
    if not url.startswith(("http://", "https://")):
        raise UserError(f"Expected a URL that begins with http:// or https://, found {url}.")
    part = _Part(path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json"))
    try:
        with file_lock(path):
            if not path.is_file():
                _fetch(url, part)
                _verify(url, part, sha256)
                commit(part.file, path)
                part.forget()
    except (OSError, HTTPException) as error:
        raise UserError(
            f"Cannot download {url}: {error}. What came is kept, and the next try goes on from it. Or put "
            f"the file at {path} by hand."
        ) from error
    return path


@dataclass(frozen=True)
class _Part:
    """What has come of a file, and a note of which file it is."""

    file: Path
    note: Path

    def size(self) -> int:
        """Count the bytes that have come."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def kept(self, url: str) -> tuple[int, str, int]:
        """Tell how much has come, of which file, and how long that is; nothing where one is unknown."""
        try:
            noted = json.loads(self.note.read_text())
            if noted["url"] == url and 0 < self.size() <= noted["size"]:
                return self.size(), noted["mark"], noted["size"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return 0, "", 0

    def remember(self, url: str, mark: str | None, size: int) -> None:
        """Note which file comes, where the server says it."""
        if mark and size:
            self.note.write_text(json.dumps({"url": url, "mark": mark, "size": size}))
        else:
            self.note.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete both."""
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _fetch(url: str, part: _Part) -> None:
    """Receive the whole file, in as many goes as bring some of it; give up after a few that bring nothing."""
    failures = 0
    while True:
        before = part.size()
        try:
            return _receive(url, part)
        except (URLError, ConnectionError, TimeoutError, HTTPException) as error:
            code = error.code if isinstance(error, HTTPError) else None
            failures = 1 if part.size() > before else failures + 1
            if failures == _TRIES or (code and code not in _PASSING):
                raise
            if code == 416:
                part.forget()
        time.sleep(_PAUSE * failures)


def _receive(url: str, part: _Part) -> None:
    have, mark, size = part.kept(url)
    if have and have == size:
        return
    headers = {"User-Agent": f"ibkd_mm/{__version__}"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as reply:
        if reply.status == 206 and not _goes_on(reply, have, mark, size):
            part.forget()
            raise ConnectionError("the file has changed since a part of it came")
        if reply.status != 206:
            have, size = 0, reply.length or 0
            part.file.unlink(missing_ok=True)
            part.remember(url, _mark(reply), size)
        _check_disk_space(part.file.parent, size - have)
        _copy(reply, part, Progress(part.file.stem, have, size))
    if size and part.size() != size:
        raise ConnectionError(f"the connection was cut after {part.size():,} of {size:,} bytes")


def _goes_on(reply: HTTPResponse, have: int, mark: str, size: int) -> bool:
    same = _mark(reply) in (mark, None)
    return same and reply.headers.get("Content-Range", "") == f"bytes {have}-{size - 1}/{size}"


def _mark(reply: HTTPResponse) -> str | None:
    """What changes when the file does; an ETag marked weak says only that it means the same."""
    tag = reply.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else reply.headers.get("Last-Modified")


def _check_disk_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are to come.")


def _copy(reply: HTTPResponse, part: _Part, progress: Progress) -> None:
    with part.file.open("ab") as file:
        try:
            while chunk := reply.read(_CHUNK):
                file.write(chunk)
                progress.show(len(chunk))
        finally:
            progress.end()


def _verify(url: str, part: _Part, sha256: str | None) -> None:
    if sha256 is None:
        return
    found = hash_of_file(part.file)
    if not found.startswith(sha256.lower()):
        part.forget()
        raise UserError(
            f"What {url} gave is another file than expected, and was deleted: expected the sha256 {sha256}, "
            f"found {found}. Try again; if that does not help, the file has changed or is forged."
        )
