"""All verbs, gathered."""

from . import edit, manage, text, train, use
from .root import fromnoise

__all__ = ["edit", "fromnoise", "manage", "text", "train", "use"]
