"""Fréchet distances between samples and real examples, on features."""

from functools import partial

from ...measures.frechet import frechet
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import CONTROL

UNIT = "squared feature units"


def frechet_rows(context: MetricContext) -> list[dict]:
    """The distances to the train and the test split, by every feature map."""
    rows = []
    for feature_map in context.maps:
        x = context.features(feature_map)
        train = context.real_features("train", feature_map)
        test = context.real_features("test", feature_map)
        is_main = feature_map is context.main_map
        rows.append(
            FRECHET.measured(
                partial(frechet, x, train),
                partial(frechet, test, train) if len(test) >= CONTROL else None,
                group="samples" if is_main else "referees",
                **context.card("train", len(train), feature_map),
            )
        )
        card = context.card("test", len(test), feature_map)
        rows.append(HELD_OUT.measured(partial(frechet, x, test), **card))
    return rows


FRECHET = Metric(
    name="frechet",
    label="Fréchet distance",
    unit=UNIT,
    better="lower",
    group="samples",
    headline="Fréchet",
    question="Samples nearest to the data in the means and covariances of their features",
    measure=frechet_rows,
    order=10,
    headline_order=1,
    question_order=1,
    progress="Fréchet {:.2f}",
    is_doubted=True,
)
HELD_OUT = Metric(
    name="frechet_held_out",
    label="Fréchet distance to held-out examples",
    unit=UNIT,
    better="lower",
    group="referees",
    is_doubted=True,
)
METRICS = (FRECHET, HELD_OUT)
