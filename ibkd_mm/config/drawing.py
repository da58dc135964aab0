"""Set up drawing of predictions in a config."""

from pathlib import Path

from mmengine.config import Config

from ibkd_mm.errors import UserError


def enable_drawing(config: Config, show: bool, show_dir: str | None, wait_time: float) -> str | None:
    """Make the config's visualization hook draw; return the folder that it writes to.

    Args:
        config: with a visualization hook in `default_hooks`.
        show: show each image with its predictions in a window.
        show_dir: folder for images with their predictions; mmdet's hook creates a relative one in the log
            folder.
        wait_time: seconds between images.
    """
    hook = config.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise UserError(
            "--show and --show-dir need a visualization hook in default_hooks, and the config has none. Add "
            "default_hooks=dict(visualization=dict(type='mmdet.DetVisualizationHook')) to it."
        )
    hook.draw = True
    if show:
        hook.show, hook.wait_time = True, wait_time
    if show_dir and str(hook.type).endswith("SegVisualizationHook"):
        # mmseg's hook has no folder; its visualizer's is relative to the current folder.
        config.visualizer.save_dir = show_dir = str(Path(show_dir).absolute())
    elif show_dir:
        hook.test_out_dir = show_dir
    return show_dir
