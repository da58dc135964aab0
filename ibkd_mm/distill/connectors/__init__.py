"""What brings records of teacher and student into one space."""

from ibkd_mm.distill.connectors.bifocal import BifocalAttention
from ibkd_mm.distill.connectors.bridge import ContextualFeatureBridge
from ibkd_mm.distill.connectors.cached_instances import CachedInstances
from ibkd_mm.distill.connectors.query_instances import QueryInstances

__all__ = ["BifocalAttention", "CachedInstances", "ContextualFeatureBridge", "QueryInstances"]
