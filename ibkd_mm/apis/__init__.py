"""The Python calls behind the commands, one module for each.

Where a call has them: `config` is a config, its path, or `package::path`; `options` are settings to override,
as for `load_config`; `work_dir` is a folder for the run's files, else the config's, else
`./work_dirs/<config name>`; `launcher` is 'none', 'pytorch', 'slurm' or 'mpi'.
"""

from ibkd_mm import stack

stack.prepare()

from ibkd_mm.apis.check import check  # noqa: E402
from ibkd_mm.apis.export import export  # noqa: E402
from ibkd_mm.apis.publish import publish  # noqa: E402
from ibkd_mm.apis.test import test  # noqa: E402
from ibkd_mm.apis.train import TrainResult, train  # noqa: E402
from ibkd_mm.config.load import load_config  # noqa: E402

__all__ = ["TrainResult", "check", "export", "load_config", "publish", "test", "train"]
