"""Downloads against a server that can be made to misbehave."""

import hashlib
import json
import multiprocessing
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ibkd_mm.engine import load_weights
from ibkd_mm.errors import UserError
from ibkd_mm.utils import download as module
from ibkd_mm.utils.download import download
from ibkd_mm.utils.progress import Progress

BODY = bytes(range(256)) * 4000
HASH = hashlib.sha256(BODY).hexdigest()


class Site:
    """A file on the web: what is served, how, and which requests came."""

    def __init__(self) -> None:
        self.body, self.tag = BODY, '"first"'
        self.ranges = True  # answers requests for a part with that part
        self.honest = True  # heeds If-Range
        self.cuts: list[int] = []  # after how many bytes of the next replies the connection breaks
        self.errors: list[int] = []  # codes of the next replies
        self.asked: list[str | None] = []
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append(wanted)
        if site.errors:
            return self.send_error(site.errors.pop(0))
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and site.ranges else 0
        if site.honest and self.headers.get("If-Range") != site.tag:
            start = 0
        if start >= len(site.body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}")
        if site.tag:
            self.send_header("ETag", site.tag)
        self.send_header("Content-Length", str(len(site.body) - start))
        self.end_headers()
        end = start + site.cuts.pop(0) if site.cuts else None
        self.wfile.write(site.body[start:end])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    made = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": made}))
    made.url = f"http://127.0.0.1:{server.server_port}/a.bin"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_once(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    for _ in range(2):
        assert download(site.url, path, HASH) == path
    assert path.read_bytes() == BODY
    assert site.asked == [None]
    assert _names(path.parent) == [".a.bin.lock", "a.bin"]


def test_a_cut_connection_is_resumed(site: Site, tmp_path: Path) -> None:
    site.cuts = [300_000, 0, 400_000]
    download(site.url, tmp_path / "a.bin", HASH)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.asked == [None, "bytes=300000-", "bytes=300000-", "bytes=700000-"]


def test_the_next_run_resumes_the_part_of_an_interrupted_one(site: Site, tmp_path: Path) -> None:
    site.cuts = [300_000, 0, 0]
    with pytest.raises(
        UserError,
        match=r"cut after 300,000 of 1,024,000 bytes.*is kept.*put the file at .*a\.bin",
    ):
        download(site.url, tmp_path / "a.bin", HASH)
    assert _names(tmp_path) == [".a.bin.lock", "a.bin.part", "a.bin.part.json"]
    download(site.url, tmp_path / "a.bin", HASH)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.asked[-1] == "bytes=300000-"


def test_a_server_without_range_requests_sends_everything_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [300_000]
    download(site.url, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.asked == [None, "bytes=300000-"]


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("body", [BODY[::-1], BODY[::-1] + b"more", BODY[:1000]])
def test_a_file_that_changed_between_two_tries_is_downloaded_again(
    site: Site, tmp_path: Path, honest: bool, body: bytes
) -> None:
    site.cuts = [300_000, 0, 0]
    with pytest.raises(UserError):
        download(site.url, tmp_path / "a.bin")
    site.body, site.tag, site.honest = body, '"second"', honest
    download(site.url, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == body


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_parts_without_a_strong_etag_are_not_joined(site: Site, tmp_path: Path, tag: str | None) -> None:
    site.tag, site.cuts = tag, [300_000]
    download(site.url, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.asked == [None, None]


def test_a_complete_part_is_not_requested_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY)
    note = {"url": site.url, "mark": site.tag, "size": len(BODY)}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(note))
    download(site.url, tmp_path / "a.bin", HASH)
    assert site.asked == []
    assert _names(tmp_path) == [".a.bin.lock", "a.bin"]


@pytest.mark.parametrize("note", ["", "[]", '{"url": "http://other/a.bin", "mark": "x", "size": 9999999}'])
def test_a_part_of_unknown_origin_is_not_resumed(site: Site, tmp_path: Path, note: str) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"something else")
    (tmp_path / "a.bin.part.json").write_text(note)
    download(site.url, tmp_path / "a.bin", HASH)
    assert site.asked == [None]


def test_a_wrong_hash_is_deleted_and_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"Expected a file with the sha256 {'0' * 64} at .*, found {HASH}"):
        download(site.url, tmp_path / "a.bin", "0" * 64)
    assert _names(tmp_path) == [".a.bin.lock"]
    assert download(site.url, tmp_path / "a.bin", HASH[:8].upper()).is_file()


def test_a_busy_server_is_tried_again_and_a_missing_file_is_not(site: Site, tmp_path: Path) -> None:
    site.errors = [503, 429]
    download(site.url, tmp_path / "a.bin", HASH)
    assert len(site.asked) == 3
    site.errors = [404]
    with pytest.raises(UserError, match=rf"Cannot download {site.url}: HTTP Error 404: Not Found"):
        download(site.url, tmp_path / "b.bin")
    assert len(site.asked) == 4


def test_a_full_disk_is_reported_before_anything_is_received(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(UserError, match=r"0.0 GB free; the download needs 0.0 GB"):
        download(site.url, tmp_path / "a.bin")
    assert not (tmp_path / "a.bin.part").exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "/etc/passwd", "data:,a"])
def test_only_http_urls_are_accepted(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Expected a URL that begins with http"):
        download(url, tmp_path / "a")


def test_of_several_processes_one_downloads(site: Site, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=download, args=(site.url, tmp_path / "a.bin", HASH)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert site.asked == [None]


def test_weights_are_downloaded_into_torchs_cache_and_verified_by_their_name(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    torch.save(OrderedDict(weight=torch.ones(2)), tmp_path / "source.pth")
    site.body = (tmp_path / "source.pth").read_bytes()
    web, right = site.url.rpartition("/")[0], hashlib.sha256(site.body).hexdigest()[:8]
    for _ in range(2):
        found = load_weights(f"{web}/models/a-{right}.pth?download=1#here")
        assert found["state_dict"]["weight"].tolist() == [1.0, 1.0]
    assert len(site.asked) == 1
    assert (tmp_path / "hub" / "checkpoints" / f"a-{right}.pth").is_file()
    load_weights(f"{web}/a_20200130.pth")  # eight digits are a date, and no hash
    with pytest.raises(UserError, match=r"the sha256 0123456f at .*, found"):
        load_weights(f"{web}/a-0123456f.pth")
    for nameless in (f"{web}/", f"{web}/..", f"{web}/?a.pth"):
        with pytest.raises(UserError, match="ends in the name of a file"):
            load_weights(nameless)


def test_a_terminal_shows_the_progress_of_a_resumed_download(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    class Recorded(Progress):
        def update(self, done: int) -> None:
            super().update(done)
            lines.append(self.line(seconds=1))

    monkeypatch.setattr(module, "Progress", Recorded)
    site.cuts = [524_000]
    download(site.url, tmp_path / "a.bin", HASH)
    assert lines[-1] == "a.bin: 100%, 1.0 of 1.0 MB, 0.5 MB/s, 0:00:00 left"
