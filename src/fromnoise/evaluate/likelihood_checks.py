"""Which likelihood a run has, in which unit, and why it may have none."""

import torch

from ..core.capabilities import HasLikelihood, has
from ..core.words import shown
from ..data.codecs.column import Column
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..runs.load import LoadedRun

ROWS_FOR_REPEATS = 20_000  # training rows that are searched for repeated values
FEWEST_REPEATS = 5  # rows with the same value
SHARE_OF_REPEATS = 0.01  # of the rows
NATS = "nats per example"
OLD_RUN = (
    "its run is from before tables had probabilities, and took whole numbers and fixed decimals "
    "for continuous: train it anew"
)


def unit_of(dataset: Dataset) -> str:
    """The unit of a likelihood, so that a probability is not compared with a density.

    A row of a table has a probability where all columns are categories or have fixed decimals;
    every other column adds the density of its standardised number.
    """
    if dataset.columns is None:
        return NATS
    densities = dataset.spec.densities
    if not densities:
        return "nats per row"
    count = len(dataset.columns.columns)
    return f"nats per row, {densities} of {count} columns as standardised densities"


def why_none(loaded: LoadedRun) -> str:
    """Why this model has no likelihood; an empty string if it has one."""
    model = loaded.model
    if not has(model, HasLikelihood):
        return "this family defines no density"
    if model.bound == "none":
        return model.reason
    columns = loaded.dataset.columns
    if columns is not None and columns.cells and not model.spec.cells:
        return OLD_RUN
    return repeated_value(loaded.dataset)


def repeated_value(dataset: Dataset) -> str:
    """Why the log-likelihood of these rows has no upper limit; an empty string if it has one.

    A continuous number that has one value in many rows (money: often exactly 0) has a probability
    there, not a density: a narrow peak on the value reaches any log-likelihood.
    """
    spec = dataset.spec
    if spec.kind != "vector" or not spec.densities or "train" not in dataset.splits:
        return ""
    x = torch.cat([batch.x for batch in in_order(dataset, "train", limit=ROWS_FOR_REPEATS)])
    fewest = max(FEWEST_REPEATS, SHARE_OF_REPEATS * len(x))
    for component, (name, column) in continuous_components(dataset).items():
        most = int(x[:, component].unique(return_counts=True)[1].max())
        if most >= fewest:
            advice = ""
            if column is not None:
                advice = f"; {column.describe_rounding()}, then each row has a probability"
            return (
                f"{name} has one value in {most:,} of {len(x):,} rows, but is continuous: a "
                f"density has no upper limit there{advice}"
            )
    return ""


def continuous_components(dataset: Dataset) -> dict[int, tuple[str, Column | None]]:
    """The components of a vector with a density: index -> name, and the column of a table."""
    spec = dataset.spec
    sizes = spec.blocks or (1,) * spec.dims
    columns = [None] * len(sizes)
    if dataset.columns is not None:
        columns = [column for column in dataset.columns.columns if not column.constant]
    components = {}
    component = 0
    for column, size in zip(columns, sizes):
        if size == 1 and not (spec.cells and spec.cells[component][0] > 0):
            name = f"component {component}" if column is None else f"column {shown(column.name)}"
            components[component] = (name, column)
        component += size
    return components
