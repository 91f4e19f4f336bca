"""Near-copies of training examples and duplicates among samples, by features close to pixels."""

from ...measures import memory
from ...measures.estimate import Estimate
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import CONTROL, reference_id


def copy_rows(context: MetricContext) -> list[dict]:
    feature_map = context.quality_reference.pixels
    x = context.features(feature_map)
    train = context.real_features("train", feature_map, everything=True)
    test = context.real_features("test", feature_map)
    reference = reference_id(context.dataset, "train", len(train))
    card: dict = {"split": "train", "reference": reference, "evaluator": feature_map.name}
    has_control = len(test) + 1 >= CONTROL  # 1 % of fewer examples is none
    more: dict = {}
    if not has_control:
        reason = (
            f"{len(test)} held-out examples are too few for a control: each training example "
            "against the others instead (leave-one-out)"
        )
        more = {"reference": f"{reference}, leave-one-out", "reason": reason}

    def near_copies() -> Estimate:
        if has_control:
            return memory.near_copy_rate(x, train, test)
        return memory.near_copy_rate_within(x, train)

    return [
        NEAR_COPIES.measured(near_copies, **(card | more)),
        DUPLICATES.measured(lambda: memory.duplicates(x, test), **card),
    ]


NEAR_COPIES = Metric(
    name="near_copies",
    label="near-copies of training examples",
    unit="share",
    better="near",
    group="memory",
    headline="copies",
    measure=copy_rows,
    order=70,
    headline_order=2,
)
DUPLICATES = Metric(
    name="duplicates",
    label="samples that repeat another sample",
    unit="share",
    better="near",
    group="memory",
)
METRICS = (NEAR_COPIES, DUPLICATES)
