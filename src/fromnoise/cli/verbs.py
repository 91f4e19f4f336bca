"""All verbs, gathered."""

from . import manage, text, train, use
from .root import fromnoise

__all__ = ["fromnoise", "manage", "text", "train", "use"]
