"""How often each class comes, and whether samples are of the class that was asked for."""

from dataclasses import replace

from torch import Tensor

from ...measures import labels
from ...measures.evaluator import Evaluator
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import reference_id


def class_rows(context: MetricContext) -> list[dict]:
    """Empty without an evaluator that was trained on classes."""
    evaluator = context.quality_reference.evaluator
    if not isinstance(evaluator, Evaluator) or not evaluator.classes:
        return []
    test = context.real_features("test", evaluator)
    reference = reference_id(context.dataset, "test", len(test))
    card: dict = {"evaluator": evaluator.name, "reference": reference}
    predicted = evaluator.logits(context.features(evaluator)).argmax(1)
    real = evaluator.logits(test).argmax(1)
    seen = labels.classes_seen(predicted, real, evaluator.classes)
    rows = [SEEN.row(seen, of=evaluator.classes, **card)]
    if context.drawn.y is not None:
        return rows + conditional_rows(context, evaluator, predicted, real, card)

    def chi_square():
        return labels.class_chi_square(predicted, real, evaluator.classes)

    return [*rows, HISTOGRAM.measured(chi_square, **card)]


def conditional_rows(
    context: MetricContext, evaluator: Evaluator, predicted: Tensor, real: Tensor, card: dict
) -> list[dict]:
    """predicted (n,), real (m,): the evaluator's classes of the samples and of the test examples."""
    x = context.features(evaluator)
    y = context.drawn.y
    assert y is not None
    train = context.real_features("train", evaluator)
    train_y = context.quality_reference.labels("train")
    test = context.real_features("test", evaluator)
    test_y = context.quality_reference.labels("test")

    def score(z: Tensor, y: Tensor):
        return labels.classification_accuracy_score(z, y, test, test_y)

    return [
        AGREEMENT.measured(
            lambda: labels.label_agreement(predicted, y),
            lambda: labels.label_agreement(real, test_y),
            **card,
        ),
        ACCURACY.measured(
            lambda: score(x, y),
            lambda: score(train[: len(x)], train_y[: len(x)]),
            n=len(x),
            m=len(test),
            **card,
        ),
    ]


SEEN = Metric(
    name="classes_seen",
    label="classes that samples fall into",
    unit="classes",
    better="higher",
    group="labels",
    measure=class_rows,
    order=50,
)
HISTOGRAM = Metric(
    name="class_histogram",
    label="classes in other shares than real",
    unit="chi-squared per degree of freedom",
    better="lower",
    group="labels",
)
AGREEMENT = Metric(
    name="label_agreement",
    label="samples of the class asked for",
    unit="share",
    better="higher",
    group="labels",
)
ACCURACY = replace(
    AGREEMENT,
    name="classification_accuracy_score",
    label="accuracy of a classifier trained on samples",
)
METRICS = (SEEN, HISTOGRAM, AGREEMENT, ACCURACY)
