"""Small trained runs of several families and kinds of data, for checks of figures and metrics."""

from pathlib import Path

from ..runs.load import LoadedRun, load_run
from ..training.launch import start_run
from ..training.plan import make_plan
from .suite import DIGITS, POINTS, SMALL, TEXT

MODELS = (
    ("vae", DIGITS),
    ("vae", POINTS),
    ("diffusion", DIGITS),
    ("gan", DIGITS),
    ("autoregressive", TEXT),
)


def train_small_runs(folder: Path) -> list[LoadedRun]:
    """A run of each of MODELS, below the folder, after a few steps."""
    runs = []
    for family, dataset in MODELS:
        place = folder / f"{family}-{Path(dataset['data_name']).stem}"
        runs.append(load_run(start_run(make_plan(family, **dataset, **SMALL), place)))
    return runs
