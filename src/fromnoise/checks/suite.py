"""The family under test, and the small data that suit it."""

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import families
from ..core.capabilities import Predicts, has
from ..core.errors import UsageError
from ..runs.load import LoadedRun, load_run
from ..training.launch import start_run
from ..training.plan import Plan, make_plan

DIGITS: dict[str, Any] = {"data_name": "digits"}
POINTS: dict[str, Any] = {"data_name": "ring8"}
CAPTIONS: dict[str, Any] = {"data_name": "shapes"}
TEXT: dict[str, Any] = {
    "data_name": str(Path(__file__).resolve()),
    "context": 32,
}  # any small text: this one
TRUST = families.Trust(recorded=True)  # the user named the file, and the runs are made here
SMALL: dict[str, Any] = {
    "threads": 1,
    "steps": 24,
    "batch_size": 128,
    "intervals": 3,
    "validation_examples": 64,
}


class Suite:
    """A family and the options that go to all of its trainings."""

    def __init__(self, family: families.FamilyFile, options: dict):
        self.family = family
        self.name = family.name if family.is_ours else str(family.path)
        self.options = SMALL | options

    @cached_property
    def data(self) -> list[dict]:
        """The small data sets that the family accepts, at least one; text if it predicts symbols.

        Raises UsageError if it accepts none.
        """
        accepted = []
        refusals = []
        predicts = True
        for data in (DIGITS, POINTS, TEXT):
            if data is TEXT and not predicts:
                continue
            try:
                predicts = has(self.plan(data).initial_model(), Predicts)
            except UsageError as error:
                refusals.append(error)
                continue
            if data is not TEXT or predicts:
                accepted.append(data)
        if not accepted:
            raise refusals[0]
        return accepted

    def plan(self, data: dict | None = None, **options) -> Plan:
        """A small training on ``data`` [the first that the family accepts]."""
        data = self.data[0] if data is None else data
        return make_plan(self.name, **data | self.options | options)

    def accepts(self, **options) -> bool:
        """Whether these options go together with those under test."""
        try:
            self.plan(**options)
        except UsageError:
            return False
        return True

    @contextlib.contextmanager
    def trained(self, data: dict | None = None, **options) -> Iterator[LoadedRun]:
        """A small trained run, removed at the end."""
        with tempfile.TemporaryDirectory() as folder:
            run = start_run(self.plan(data, **options), Path(folder) / "run")
            yield load_run(run, trust=TRUST)
