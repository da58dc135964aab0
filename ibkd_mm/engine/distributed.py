"""Several processes: what mmengine's launchers leave out on a machine without CUDA."""

import os
import subprocess

import torch
from mmengine.config import Config
from mmengine.dist import is_distributed
from torch import distributed

from ibkd_mm.errors import UserError

_NEEDS = {
    "pytorch": (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"),
        "torchrun --nproc_per_node 2 tools/train.py CONFIG",
    ),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST"), "srun --ntasks 2 ibkd train CONFIG"),
    "mpi": (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "MASTER_ADDR"),
        "mpirun -np 2 ibkd train CONFIG",
    ),
}
_OWN_NAMES = {
    "pytorch": {},
    "slurm": {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"},
    "mpi": {
        "RANK": "OMPI_COMM_WORLD_RANK",
        "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
        "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
    },
}


def init_processes(config: Config, launcher: str) -> None:
    """Note the launcher in the config and, without CUDA, start a gloo group, which mmengine cannot.

    mmengine calls `torch.cuda.set_device` whatever the backend, and gives DDP a device number.
    """
    if launcher not in ("none", *_NEEDS):
        raise UserError(f"Expected a launcher of none, {', '.join(_NEEDS)}, found '{launcher}'.")
    config.launcher = launcher
    if launcher == "none":
        return
    _check_environment(launcher)
    _use_own_names(launcher)
    if torch.cuda.is_available():
        return  # the runner joins by itself
    config.model_wrapper_cfg = _cpu_wrapper(config)
    if not is_distributed():
        distributed.init_process_group("gloo")


def destroy_processes() -> None:
    """End the group of processes, if there is one, all together, so that none is left hanging."""
    if is_distributed():
        distributed.barrier()  # the first holds the store that the others still talk to
        distributed.destroy_process_group()


def _check_environment(launcher: str) -> None:
    names, example = _NEEDS[launcher]
    everywhere, here = (os.environ.get(f"OMPI_COMM_WORLD_{size}") for size in ("SIZE", "LOCAL_SIZE"))
    if launcher == "mpi" and everywhere == here:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    lacking = [name for name in names if name not in os.environ]
    if lacking:
        raise UserError(
            f"--launcher {launcher}: expected the launcher to set {', '.join(lacking)}. "
            f"Start with: {example} --launcher {launcher}"
        )


def _use_own_names(launcher: str) -> None:
    """Give the launcher's ranks the names that torch reads."""
    for name, theirs in _OWN_NAMES[launcher].items():
        os.environ[name] = os.environ.get(theirs, "0")
    os.environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in os.environ:
        os.environ["MASTER_ADDR"] = _first_slurm_host()


def _first_slurm_host() -> str:
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_NODELIST"]]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise UserError(
            f"Cannot tell the first host of {os.environ['SLURM_NODELIST']} ({error}). Set MASTER_ADDR."
        ) from error


def _cpu_wrapper(config: Config) -> dict[str, object]:
    given = config.get("model_wrapper_cfg") or {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": config.get("find_unused_parameters", False),
    }
    return {**given, "device_ids": None}
