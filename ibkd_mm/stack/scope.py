"""mmengine's knowledge of packages: lets configs say `_base_ = ['ibkd_mm::mask_rcnn/...']`."""

from mmengine.config.utils import MODULE2PACKAGE


def install() -> None:
    """Enter `ibkd_mm` into the table of packages whose configs may be inherited.

    Upstream keeps a fixed table and offers no way to register a package; drop this when it does.
    """
    MODULE2PACKAGE.setdefault("ibkd_mm", "ibkd_mm")
