"""Train in several processes, also without CUDA, which mmengine's launchers require."""

import os
import subprocess

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from torch import distributed

from ibkd_mm.errors import UserError

_MPI = "OMPI_COMM_WORLD_"
# The environment variables that a launcher must set, and an example of its use.
_LAUNCHERS = {
    "pytorch": (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"),
        "torchrun --nproc_per_node 2 tools/train.py CONFIG",
    ),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"), "srun --ntasks 2 ibkd train CONFIG"),
    "mpi": ((f"{_MPI}RANK", f"{_MPI}SIZE", "MASTER_ADDR"), "mpirun -np 2 ibkd train CONFIG"),
}
# The launchers' names for the variables that torch reads.
_SOURCES = {
    "slurm": {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"},
    "mpi": {"RANK": f"{_MPI}RANK", "WORLD_SIZE": f"{_MPI}SIZE", "LOCAL_RANK": f"{_MPI}LOCAL_RANK"},
}


def init_processes(config: Config, launcher: str) -> None:
    """Write the launcher into the config and, without CUDA, start a gloo process group.

    mmengine calls `torch.cuda.set_device` for every backend, and passes a device number to DDP.
    """
    if launcher not in ("none", *_LAUNCHERS):
        raise UserError(f"Expected a launcher of none, {', '.join(_LAUNCHERS)}, found '{launcher}'.")
    config.launcher = launcher
    if launcher == "none":
        return
    _check_environment(launcher)
    _set_torch_environment(launcher)
    if torch.cuda.is_available():
        return  # the runner starts the process group
    wrapper = config.get("model_wrapper_cfg") or {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": config.get("find_unused_parameters", False),
    }
    config.model_wrapper_cfg = {**wrapper, "device_ids": None}
    if not is_distributed():
        distributed.init_process_group("gloo")


def destroy_processes() -> None:
    """End the process group, if there is one, in all processes at the same time."""
    if is_distributed():
        distributed.barrier()  # process 0 holds the store that the others still use
        distributed.destroy_process_group()


def _check_environment(launcher: str) -> None:
    if launcher == "mpi" and os.environ.get(f"{_MPI}SIZE") == os.environ.get(f"{_MPI}LOCAL_SIZE"):
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    required, example = _LAUNCHERS[launcher]
    if missing := [name for name in required if name not in os.environ]:
        raise UserError(
            f"--launcher {launcher}: expected the launcher to set {', '.join(missing)}. "
            f"Start with: {example} --launcher {launcher}"
        )


def _set_torch_environment(launcher: str) -> None:
    for name, source in _SOURCES.get(launcher, {}).items():
        os.environ[name] = os.environ.get(source, "0")
    os.environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ["SLURM_NODELIST"]
        command = ["scontrol", "show", "hostnames", nodes]
        try:
            hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            os.environ["MASTER_ADDR"] = hosts[0]
        except (OSError, subprocess.CalledProcessError, IndexError) as error:
            raise UserError(f"Cannot find the first host of {nodes} ({error}). Set MASTER_ADDR.") from error
