"""Texts of the page: introductions, notes, and the protocol of a metric in words."""

from ...evaluate.cells import checkpoint_value, perfect_row
from ...evaluate.known_defects import Defects
from ...evaluate.metrics.text_copying import COPIED
from ...evaluate.protocol import MetricColumn
from .verdict import shown

TABLE_NOTE = (
    "★ no other model of the line is better with certainty, its whole 95 % interval on the better "
    "side. Under a number: its 95 % interval, over the draw of samples and examples. Only numbers "
    "of one protocol share a line: the same metric, examples, reference, feature map, kind of "
    "bound, k and unit."
)
TRAINING_NOTE = "The validation objective of each training (less is better):"
NO_NUMBER = "this model has no such number"
REAL_NOTE = "held out, in place of the samples"
NO_VALUES = "metrics without a value"
COUNTED = {  # unit of a metric -> what its n counts
    "nats per symbol": "symbols",
    "equally likely symbols": "symbols",
    "bits per character": "characters",
    "bits per byte": "bytes",
}
DIRECTIONS = {
    "lower": "lower is better",
    "higher": "higher is better",
    "near": "near to a perfect model is best",
}


def describe_run(report: dict) -> str:
    step = f"step {report['step']:,}" if report.get("step") else "closed form"
    return f"{report['run']}, {step}"


def describe_protocol(column: MetricColumn) -> str:
    """How the numbers of a line were measured."""
    card = column.card
    perfect = perfect_row(column)
    parts = [
        "" if card["unit"] in ("share", "squared feature units") else card["unit"],
        f"features {card['evaluator']}" if card.get("evaluator") else "",
        _describe_examples(card),
        "noise over each level's cell" if card.get("dequantisation") else "",
        f"a perfect model: {shown(perfect)}" if perfect else "",
        DIRECTIONS.get(card["better"] or "", ""),
    ]
    return "; ".join(part for part in parts if part)


def _describe_examples(card: dict) -> str:
    """``10,000 samples against 60,000 of the train split``."""
    counted = "samples" if card.get("drawn") else COUNTED.get(card["unit"], "examples")
    parts = []
    if card.get("n"):
        parts.append(f"{card['n']:,} {counted}")
    if card.get("m"):
        parts.append(f"against {card['m']:,} of the {card['split']} split")
    elif card.get("n") and not card.get("drawn"):
        parts.append(f"{card['split']} split")
    return " ".join(parts)


def describe_training(title: str, training: dict) -> str:
    text = f"{title}: last {checkpoint_value(training, 'last')}, best {checkpoint_value(training, 'best')}"
    count = training["rollbacks"]
    if count:
        text += f"; rolled back {count} time{'s' * (count > 1)}"
    return text


def describe_texts(has_real: bool) -> str:
    intro = "The first texts of one seed, each symbol drawn from the model's distribution. "
    if not has_real:
        return intro + "No search for copies."
    return intro + (
        f"Underlined: runs of {COPIED} characters or more that stand in the training text, letter "
        "by letter. Real text repeats itself too."
    )


def describe_defects(defects: Defects) -> str:
    return (
        "Models with known defects, made from the same data and measured in the same way "
        f"({defects.n:,} samples, against one half of the training set; the other half is the "
        "perfect model). A metric detects a defect if it scores the model worse than the perfect "
        "model with intervals that do not overlap. More samples detect more; no single metric "
        "detects everything."
    )
