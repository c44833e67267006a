"""Names that moved, for those who still ask for them here."""

from study.tracking.client import KEY
from study.tracking.explain import explain
from study.tracking.follower import Follower
from study.tracking.mirror import Mirror, SyncReport

__all__ = ["KEY", "Follower", "Mirror", "SyncReport", "explain"]
