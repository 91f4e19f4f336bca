"""Seeded, disjoint splits of examples into training, validation and test."""

from collections.abc import Sequence

import numpy as np

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .config import SplitShares

SPLITS = ("train", "validation", "test")
SHARE = 0.1  # of the examples for validation, and again for the test
MIN_EXAMPLES = 10  # with fewer, no three useful, disjoint splits exist
MAX_LISTED_CLASSES = 5


def split_rows(
    n: int,
    config: SplitShares,
    y: np.ndarray | None = None,
    notes: list[str] | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Disjoint row numbers of the three splits, in shuffled order: files are often sorted by class.

    They depend on n, the shares and the seed; on labels y (n,) only where a class would have no
    training example: it gets one, in exchange with a class that has several.
    notes: receives a line about classes that remain without one, or without a held-out one.
    Raises DataError, UsageError.
    """
    if n < MIN_EXAMPLES:
        raise DataError(
            f"{n} example{'s' * (n != 1)} cannot be split for training, validation and test: "
            f"give at least {MIN_EXAMPLES}"
        )
    order = Rng(config.split_seed).at("split").numpy("order").permutation(n)
    n_test = max(1, round(n * (config.test or SHARE)))
    n_validation = max(1, round(n * (config.validation or SHARE)))
    if n_test + n_validation >= n:
        raise UsageError(
            f"--validation and --test leave none of the {n} examples for training: "
            "choose smaller shares"
        )
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    rows = {"train": train, "validation": validation, "test": test}
    if y is not None:
        _give_every_class_an_example(rows, y)
        note_classes_without_examples(
            {part: y[part_rows] for part, part_rows in rows.items()}, class_names, notes
        )
    return rows


def _give_every_class_an_example(rows: dict[str, np.ndarray], y: np.ndarray) -> None:
    """Exchanges rows, in place, until every class of y (n,) has a training row, where possible."""
    train = rows["train"]
    counts = np.bincount(y[train], minlength=int(y.max()) + 1)
    for missing in np.flatnonzero((np.bincount(y) > 0) & (counts == 0)):
        largest = counts.argmax()
        if counts[largest] < 2:
            return
        held_out = next(
            part_rows
            for part, part_rows in rows.items()
            if part != "train" and (y[part_rows] == missing).any()
        )
        train_index = np.flatnonzero(y[train] == largest)[-1]
        held_out_index = (y[held_out] == missing).argmax()
        train[train_index], held_out[held_out_index] = held_out[held_out_index], train[train_index]
        counts[largest] -= 1
        counts[missing] += 1


def note_classes_without_examples(
    labels: dict[str, np.ndarray], class_names: Sequence[str], notes: list[str] | None
) -> None:
    """A note on the classes without a training example, and one on those without a held-out one.

    labels: split -> labels of its examples (n,).
    """
    if notes is None:
        return
    counts = {part: np.bincount(y, minlength=len(class_names)) for part, y in labels.items()}
    held_out = counts["validation"] + counts["test"]
    totals = counts["train"] + held_out

    def listed(classes: np.ndarray) -> str:
        names = [f"'{class_names[i]}' ({totals[i]})" for i in classes[:MAX_LISTED_CLASSES]]
        return ", ".join(names) + " ..." * (len(classes) > MAX_LISTED_CLASSES)

    unlearned = np.flatnonzero((counts["train"] == 0) & (held_out > 0))
    if len(unlearned):
        notes.append(
            f"classes without a training example, which no model learns: {listed(unlearned)}"
        )
    unmeasured = np.flatnonzero((counts["train"] > 0) & (held_out == 0))
    if len(unmeasured):
        notes.append(
            "classes with training examples only, so that no validation or test example measures "
            f"them: {listed(unmeasured)}"
        )
