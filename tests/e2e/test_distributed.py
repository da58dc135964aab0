"""Training on two processes: the commands of docs/distributed.md, on a CPU with gloo."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.tiny_detector import write_tiny
from torch import distributed

from ibkd_mm.apis import train
from ibkd_mm.config.load import load_config
from ibkd_mm.engine import load_weights
from ibkd_mm.engine.distributed import destroy_processes, init_processes
from ibkd_mm.errors import UserError

ROOT = Path(__file__).parents[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.e2e
def test_two_processes_train_as_one_with_the_same_batch(tmp_path: Path) -> None:
    # Two pictures without shuffling: one process sees both in a batch, of two each sees one.
    config = write_tiny(tmp_path, pictures=2)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_port", str(_free_port()), str(ROOT / "tools" / "train.py"), str(config)]
    options = ["--cfg-options", "train_dataloader.batch_size=1"]
    done = subprocess.run(
        [*launch, "--launcher", "pytorch", "--work-dir", str(tmp_path / "two"), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Done: work_dir=") == 1
    assert "GPU number: 2" in done.stdout + done.stderr
    one = load_weights(str(train(config, work_dir=str(tmp_path / "one")).last))
    two = load_weights(str(tmp_path / "two" / "iter_2.pth"))
    assert two["meta"]["iter"] == one["meta"]["iter"] == 2
    start = load_weights(
        str(train(config, work_dir=str(tmp_path / "0"), options=["train_cfg.max_iters=1"]).last)
    )
    for name, weight in one["state_dict"].items():
        assert torch.allclose(weight, two["state_dict"][name], atol=1e-6), name
    assert not torch.equal(
        start["state_dict"]["neck.fpn_convs.0.conv.weight"], two["state_dict"]["neck.fpn_convs.0.conv.weight"]
    )


@pytest.mark.parametrize(
    ("launcher", "environment"),
    [
        (
            "slurm",
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_NODELIST": "node1", "SLURM_LOCALID": "0"},
        ),
        (
            "mpi",
            {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
        ),
    ],
)
def test_the_ranks_of_slurm_and_mpi_are_taken_over(
    launcher: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "7")  # what another launcher left behind
    for name, value in {**environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = load_config(write_tiny(tmp_path))
    try:
        init_processes(config, launcher)
        assert (distributed.get_backend(), distributed.get_rank(), distributed.get_world_size()) == (
            "gloo",
            0,
            1,
        )
        assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == ["0", "1", "0"]
        assert config.launcher == launcher
        assert config.model_wrapper_cfg.device_ids is None
    finally:
        destroy_processes()
    assert not distributed.is_initialized()


def test_mpi_on_several_machines_asks_for_the_first_ones_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for name, value in {"RANK": "0", "SIZE": "4", "LOCAL_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    with pytest.raises(UserError, match="expected the launcher to set MASTER_ADDR"):
        init_processes(load_config(write_tiny(tmp_path)), "mpi")


def test_without_scontrol_slurm_asks_for_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR"):
        monkeypatch.setenv(name, "0")  # so that what the launch sets is taken back
    monkeypatch.delenv("MASTER_ADDR")
    for name, value in {"PROCID": "0", "NTASKS": "2", "NODELIST": "node[1-2]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"Cannot find the first host of node\[1-2\].*Set MASTER_ADDR"):
        init_processes(load_config(write_tiny(tmp_path)), "slurm")
