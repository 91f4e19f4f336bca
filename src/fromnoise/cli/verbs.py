"""All verbs, gathered."""

from . import manage, train, use
from .root import fromnoise

__all__ = ["fromnoise", "manage", "train", "use"]
