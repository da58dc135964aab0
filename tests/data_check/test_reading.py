import os

import cv2
import numpy as np
import pytest

from ibkd_mm.data_check import reading
from ibkd_mm.data_check.images import Task
from ibkd_mm.errors import UserError


@pytest.fixture
def tasks(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(8):
        cv2.imwrite(str(tmp_path / f"{n}.png"), rng.integers(0, 255, (4 + n, 6, 3), dtype=np.uint8))
    return [Task(str(tmp_path / f"{n}.png")) for n in range(8)] + [Task(str(tmp_path / "none.png"))]


def test_several_processes_find_what_one_finds(tasks, monkeypatch):
    alone = reading.read_pictures(tasks, workers=1)
    assert [alone[task].height for task in tasks] == [*range(4, 12), 0]
    assert alone[tasks[-1]].problem == "missing"
    monkeypatch.setattr(reading, "_FILES_A_WORKER", 1)
    assert reading.read_pictures(tasks, workers=2) == alone


def test_every_file_is_read_once(tasks, monkeypatch):
    seen = []
    real = reading.read_picture
    monkeypatch.setattr(reading, "read_picture", lambda task: seen.append(task) or real(task))
    assert len(reading.read_pictures([*tasks, *tasks])) == 9
    assert seen == tasks


def test_arguments_of_the_backend_may_be_of_any_kind(tasks):
    elsewhere = Task(tasks[0].path, backend={"backend": "local", "more": {"nested": []}})
    plain = Task(tasks[1].path, backend={"backend": "local"})
    assert reading.read_pictures([plain])[plain].height == 5
    with pytest.raises(TypeError, match="LocalBackend"):  # which takes none
        reading.read_pictures([elsewhere])


def test_progress_is_told_apart_from_the_result(tasks, capsys):
    reading.read_pictures(tasks, workers=1)
    said = capsys.readouterr()
    assert said.out == ""
    assert "9/9" in said.err
    assert "ETA" in said.err


def test_nothing_to_read(capsys):
    assert reading.read_pictures([]) == {}
    assert capsys.readouterr().err == ""


def test_a_killed_process_is_said_to_be_one(tasks, monkeypatch):
    monkeypatch.setattr(reading, "_FILES_A_WORKER", 1)
    monkeypatch.setattr(reading, "read_picture", _die)
    with pytest.raises(UserError, match="--workers"):
        reading.read_pictures(tasks, workers=2)


def _die(task):
    os._exit(9)
