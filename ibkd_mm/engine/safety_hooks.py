"""The hooks that protect every training, as named entries of `default_hooks`."""

from collections.abc import Mapping
from typing import Any

SAFETY_HOOKS = {
    "data_position": {"type": "ibkd_mm.DataPositionHook"},
    "preemption": {"type": "ibkd_mm.PreemptionHook"},
    "non_finite": {"type": "ibkd_mm.NonFiniteGuard"},
    "bad_samples": {"type": "ibkd_mm.BadSampleGuard"},
}
"""Entries of `default_hooks` that `ResumableRunner` adds."""


def with_safety_hooks(hooks: Mapping[str, Any]) -> dict[str, Any]:
    """Return `default_hooks` of a config with the safety hooks.

    A config changes one by its name and need not repeat its type: `non_finite=dict(patience=3)`. None removes
    it; a hook that is built already replaces it.
    """
    merged = dict(hooks)
    for name, default in SAFETY_HOOKS.items():
        hook = hooks.get(name, default)
        merged[name] = {**default, **hook} if isinstance(hook, Mapping) else hook
    return merged
