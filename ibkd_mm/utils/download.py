"""Atomic downloads that resume and are verified."""

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
_TEMPORARY_ERRORS = (408, 416, 429, 500, 502, 503, 504)  # 416 if our part is longer than the file is now


def download(url: str, path: Path, sha256: str | None = None) -> Path:
    """Download `url` to `path`, unless it exists, and return `path`.

    An interrupted download, kept as `path.part`, is resumed if the server supports it and the file has not
    changed. Of several processes one downloads and the others wait. `sha256` may be its first digits.
    """
    if path.is_file():
        return path
    if not url.startswith(("http://", "https://")):
        raise UserError(f"Expected a URL that begins with http:// or https://, found {url}.")
    part = _Part(url, path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json"))
    try:
        with file_lock(path):
            if not path.is_file():
                _download_with_retries(part)
                if sha256 is not None:
                    _check_hash(part, sha256)
                commit(part.file, path)
                part.delete()
    except (OSError, HTTPException) as error:
        raise UserError(
            f"Cannot download {url}: {error}. The received part is kept, and the next try resumes it. "
            f"Or put the file at {path} yourself."
        ) from error
    return path


@dataclass(frozen=True)
class _Part:
    url: str
    file: Path  # what was received
    note: Path  # identifies the file on the server

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.is_file() else 0

    def read_note(self) -> tuple[int, str, int]:
        """Return received size, version and full size of the file; zeros if it cannot be resumed."""
        try:
            note = json.loads(self.note.read_text())
            if note["url"] == self.url and 0 < self.size <= note["size"]:
                return self.size, note["mark"], note["size"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return 0, "", 0

    def start(self, version: str | None, size: int) -> None:
        """Delete the received part and note which file comes, if the server identifies it."""
        self.delete()
        if version and size:
            self.note.write_text(json.dumps({"url": self.url, "mark": version, "size": size}))

    def delete(self) -> None:
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _download_with_retries(part: _Part) -> None:
    """Receive the whole file; give up after a few tries in a row that receive nothing."""
    failures = 0
    while True:
        before = part.size
        try:
            return _receive(part)
        except (URLError, ConnectionError, TimeoutError, HTTPException) as error:
            code = error.code if isinstance(error, HTTPError) else None
            failures = 1 if part.size > before else failures + 1
            if failures == _TRIES or (code and code not in _TEMPORARY_ERRORS):
                raise
            if code == 416:
                part.delete()
        time.sleep(_PAUSE * failures)


def _receive(part: _Part) -> None:
    received, version, size = part.read_note()
    if received and received == size:
        return
    headers = {"User-Agent": f"ibkd_mm/{__version__}"}
    if received:
        headers |= {"Range": f"bytes={received}-", "If-Range": version}
    expected_range = f"bytes {received}-{size - 1}/{size}"
    with urlopen(Request(part.url, headers=headers), timeout=_TIMEOUT) as response:
        found, found_range = _file_version(response), response.headers.get("Content-Range")
        if response.status != 206:
            received, size = 0, response.length or 0
            part.start(found, size)
        elif found not in (version, None) or found_range != expected_range:
            part.delete()
            raise ConnectionError("the file has changed since a part of it was received")
        _check_disk_space(part.file.parent, size - received)
        progress = Progress(part.file.stem, size, initial=received, unit="B")
        with part.file.open("ab") as file, progress:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                progress.advance(len(chunk))
    if size and part.size != size:
        raise ConnectionError(f"the connection was cut after {part.size:,} of {size:,} bytes")


def _file_version(response: HTTPResponse) -> str | None:
    """Return what identifies this version of the file; a weak ETag does not promise identical bytes."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _check_disk_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"{folder} has {free / 1e9:.1f} GB free; the download needs {needed / 1e9:.1f} GB.")


def _check_hash(part: _Part, sha256: str) -> None:
    found = hash_of_file(part.file)
    if not found.startswith(sha256.lower()):
        part.delete()
        raise UserError(
            f"Expected a file with the sha256 {sha256} at {part.url}, found {found}; deleted it. Try again; "
            "if that fails, the file on the server has changed or is forged."
        )
