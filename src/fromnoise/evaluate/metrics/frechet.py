"""Fréchet distances between samples and real examples, on features."""

from ...measures.frechet import frechet
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import CONTROL, reference_id

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
                lambda x=x, train=train: frechet(x, train),
                (lambda test=test, train=train: frechet(test, train))
                if len(test) >= CONTROL
                else None,
                split="train",
                reference=reference_id(context.dataset, "train", len(train)),
                group="samples" if is_main else "referees",
                evaluator=feature_map.name,
            )
        )
        rows.append(
            HELD_OUT.measured(
                lambda x=x, test=test: frechet(x, test),
                reference=reference_id(context.dataset, "test", len(test)),
                evaluator=feature_map.name,
            )
        )
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
