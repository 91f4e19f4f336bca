"""Learning curves as data: from the events of a run to panels of lines."""

from collections.abc import Iterator

NORM = "gradient_norm/"
# statistics of adversarial training at each interval: name -> panel, line
ADVERSARIAL = {
    "separation": ("discriminator: real from fake", "training examples"),
    "separation_held_out": ("discriminator: real from fake", "held-out examples"),
    "diversity": ("diversity of samples (real: 1)", "pairwise distance"),
    "entropy": ("diversity of samples (real: 1)", "entropy of modes"),
}
KINDS = ("real", "fake", "between")  # score_fake shares its panel with score_real

Panels = dict[str, dict[str, tuple[list, list]]]  # panel -> line -> steps, values


def series(events: list[dict]) -> Panels:
    """Panels in the order of their first appearance, gradient norms last.

    The distance of samples to held-out examples comes first: in adversarial training it alone measures
    their quality.
    """
    panels: Panels = {}
    distance = ""
    for event in events:
        held_out = event.get("validation", {})
        distance = distance or _distance_of(held_out)
        for source, name, value in _values_of(event):
            target = _panel_of(source, name, distance)
            if target is not None:
                panel, line = target
                steps, values = panels.setdefault(panel, {}).setdefault(line, ([], []))
                steps.append(event["step"])
                values.append(value)
    first = _distance_panel(distance)
    last = "gradient norm"
    names = [name for name in panels if name not in (first, last)]
    names = [first] * (first in panels) + names + [last] * (last in panels)
    return {name: panels[name] for name in names}


def _distance_of(held_out: dict) -> str:
    """The name of the distance that ranks checkpoints of adversarial training, or ""."""
    if "raw_distance" in held_out:
        for name in held_out:
            if name not in ("value", "raw_distance"):
                return name
    return ""


def _distance_panel(distance: str) -> str:
    return f"{distance} distance".replace("_", " ") if distance else ""


def _values_of(event: dict) -> Iterator[tuple[str, str, float]]:
    """(source, name, value); the objective is left out where it equals one of the terms."""
    held_out = event.get("validation", {})
    terms = [value for name, value in held_out.items() if name != "value"]
    is_term = held_out.get("value") in terms
    sources = {"train": event.get("train", {}), "held out": held_out, "duel": event.get("duel", {})}
    for source, values in sources.items():
        for name, value in values.items():
            if name != "value":
                yield source, name, value
            elif not is_term:
                yield source, "objective", value


def _panel_of(source: str, name: str, distance: str) -> tuple[str, str] | None:
    """The panel and line of a value, or None if it is not drawn."""
    if source == "duel":
        return ADVERSARIAL.get(name)
    if name.startswith(NORM):
        return "gradient norm", name[len(NORM) :]
    if distance and name in (distance, "raw_distance"):
        line = "averaged weights" if name == distance else "weights in training"
        return _distance_panel(distance), line
    stem, _, kind = name.rpartition("_")
    if stem and kind in KINDS:
        return stem, kind if source == "train" else f"{kind}, held out"
    return name, source


def best_of(events: list[dict]) -> tuple[int, float]:
    """Step and validation objective of the best checkpoint."""
    pairs = [(event["step"], event["validation"]["value"]) for event in events]
    return min(pairs, key=lambda pair: pair[1])
