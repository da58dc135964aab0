"""A training that is told to stop, or killed, ends with the weights of one that was left alone."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.tiny_detector import write_tiny

from ibkd_mm.apis import train
from ibkd_mm.engine import load_weights

ROOT = Path(__file__).parents[2]

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
STEPS, KILLS = 60, int(os.environ.get("IBKD_KILLS", "1"))
OPTIONS = [
    f"train_cfg.max_iters={STEPS}",
    "default_hooks.checkpoint.interval=7",
    "default_hooks.non_finite=None",
]
OPTIONS += ["default_hooks.checkpoint.max_keep_ckpts=2", "default_hooks.logger.interval=1"]


def start(command: list[str], config: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = [str(ROOT / "tools" / "train.py"), str(config), "--work-dir", str(folder), "--resume", *more]
    return subprocess.Popen(
        [*command, *arguments, "--cfg-options", *OPTIONS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=(folder.parent / "stderr.txt").open("ab"),
    )


def wait_for_steps(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the training is under way: until the pointer leads to a checkpoint that was not there."""
    pointer, until = folder / "last_checkpoint", time.monotonic() + 90
    began = pointer.read_text() if pointer.exists() else None
    while not pointer.exists() or pointer.read_text() == began:
        assert process.poll() is None, (folder.parent / "stderr.txt").read_text()
        assert time.monotonic() < until, (folder.parent / "stderr.txt").read_text()
        time.sleep(0.02)


def same(left: Path, right: Path) -> bool:
    ours, theirs = (load_weights(path)["state_dict"] for path in (left, right))
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.e2e
def test_killed_at_random_moments_it_ends_as_if_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config, folder, moments = write_tiny(tmp_path), tmp_path / "killed", random.Random(0)
    for kill in range(KILLS):
        process = start([sys.executable], config, folder)
        wait_for_steps(folder, process)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGTERM if kill % 2 else signal.SIGKILL)
        code = process.wait()
        assert code == (os.EX_TEMPFAIL if kill % 2 else -signal.SIGKILL)
    assert start([sys.executable], config, folder).wait() == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = train(config, options=OPTIONS, work_dir=str(tmp_path / "alone"))
    finally:
        torch.set_num_threads(threads)
    assert alone.last is not None
    assert same(folder / f"iter_{STEPS}.pth", alone.last)


@pytest.mark.e2e
def test_two_processes_agree_on_where_they_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config, folder = write_tiny(tmp_path), tmp_path / "two"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        command = [*TORCHRUN, "--master_port", str(probe.getsockname()[1])]
    process = start(command, config, folder, "--launcher", "pytorch")
    wait_for_steps(folder, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    saved = load_weights(folder / "preempted.pth")
    assert 0 < saved["meta"]["iter"] < STEPS
    assert saved["data_position"]["processes"] == 2
    assert (folder / "last_checkpoint").read_text() == str(folder / "preempted.pth")
