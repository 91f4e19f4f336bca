"""Rows of a report: the classes and modes of samples."""

from torch import Tensor

from ..measures import labels
from ..measures.evaluator import Evaluator
from ..measures.pacgan import ModeProtocol
from .protocol import absent, measured_row, row
from .quality_reference import QualityReference, reference_id
from .samples import Samples


def mode_rows(
    quality_reference: QualityReference, modes: ModeProtocol, index: Tensor
) -> list[dict]:
    """PacGAN's metrics of samples and of as many test examples. index (n,): modes of samples."""
    n = len(index)
    estimates = modes.estimates(index)
    test = quality_reference.test_modes(n)
    real = modes.estimates(test) if len(test) == n else {}
    card = dict(
        n=n,
        m=None,
        reference=f"{quality_reference.dataset.digest[:12]}:modes",
        evaluator=modes.classifier,
        group="labels",
    )
    metrics = {  # name -> label, unit, more
        "modes": ("modes that samples hit", "modes", dict(of=modes.count, better="higher")),
        "good_samples": ("samples that belong to a mode", "share", dict(better="higher")),
        "mode_kl": (
            "divergence of the modes' shares from equal ones",
            "nats",
            dict(better="lower"),
        ),
    }
    rows = []
    for name, (label, unit, more) in metrics.items():
        if name in estimates:
            control = real.get(name)
            rows.append(row(name, label, estimates[name], unit, real=control, **card, **more))
        elif name == "mode_kl":
            rows.append(absent(name, label, unit, "no sample belongs to a mode", **card, **more))
    return rows


def class_rows(quality_reference: QualityReference, x: Tensor, samples: Samples) -> list[dict]:
    """How often each class comes, and whether samples are of the class that was asked for.

    x (n, d): features of the samples. Empty without an evaluator that was trained on classes.
    """
    evaluator = quality_reference.evaluator
    if not isinstance(evaluator, Evaluator) or not evaluator.classes:
        return []
    test = quality_reference.features(evaluator, "test")
    card = dict(
        evaluator=evaluator.name,
        group="labels",
        reference=reference_id(quality_reference.dataset, "test", len(test)),
    )
    predicted = evaluator.logits(x).argmax(1)
    real = evaluator.logits(test).argmax(1)
    rows = [
        row(
            "classes_seen",
            "classes that samples fall into",
            labels.classes_seen(predicted, real, evaluator.classes),
            "classes",
            of=evaluator.classes,
            better="higher",
            **card,
        )
    ]
    if samples.y is not None:
        return rows + conditional_rows(quality_reference, x, samples.y, predicted, real, card)
    rows.append(
        measured_row(
            "class_histogram",
            "classes in other shares than real",
            "chi-squared per degree of freedom",
            lambda: labels.class_chi_square(predicted, real, evaluator.classes),
            better="lower",
            **card,
        )
    )
    return rows


def conditional_rows(
    quality_reference: QualityReference,
    x: Tensor,
    y: Tensor,
    predicted: Tensor,
    real: Tensor,
    card: dict,
) -> list[dict]:
    """x (n, d), y (n,): features of samples and the labels that were asked for.

    predicted (n,), real (m,): the evaluator's classes of the samples and of the test examples.
    """
    evaluator = quality_reference.evaluator
    train = quality_reference.features(evaluator, "train")
    train_y = quality_reference.labels("train")
    test = quality_reference.features(evaluator, "test")
    test_y = quality_reference.labels("test")

    def score(z, y):
        return labels.classification_accuracy_score(z, y, test, test_y)

    return [
        measured_row(
            "label_agreement",
            "samples of the class asked for",
            "share",
            lambda: labels.label_agreement(predicted, y),
            lambda: labels.label_agreement(real, test_y),
            better="higher",
            **card,
        ),
        measured_row(
            "classification_accuracy_score",
            "accuracy of a classifier trained on samples",
            "share",
            lambda: score(x, y),
            lambda: score(train[: len(x)], train_y[: len(x)]),
            better="higher",
            n=len(x),
            m=len(test),
            **card,
        ),
    ]
