"""All verbs: importing this module adds them to ``fromnoise``."""

from . import (
    check,
    compare,
    data,
    edit,
    evaluate,
    evaluator,
    new,
    reconstruct,
    resume,
    runs,
    sample,
    score,
    show,
    text,
    tour,
    train,
    verify,
)
from .root import fromnoise

__all__ = [
    "check",
    "compare",
    "data",
    "edit",
    "evaluate",
    "evaluator",
    "fromnoise",
    "new",
    "reconstruct",
    "resume",
    "runs",
    "sample",
    "score",
    "show",
    "text",
    "tour",
    "train",
    "verify",
]
