"""The duel of an adversarial family, in numbers and in words: who is winning, how varied the samples are, what to do.

A discriminator that ranks nearly all pairs right is no illness by itself: relativistic GANs in good health reach 95 %.
So no verdict rests on the separation alone; a bad sign in the samples or in the generator's gradient must join it.
"""

import math
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...core.config import BaseConfig
from ...core.family import Family
from ...core.rng import Rng
from ...data.dataset import Dataset
from ...measures.evaluator import Evaluator
from ...measures.separation import mean_distance, separation
from .validation import Reference

FAR = 0.25  # share of what the data's mean alone would score, above which samples are far from the data
NEAR = 0.01  # the same, below which they are so near that a factor between two distances is no news
RANKS_ALL = 0.99  # of pairs: above it a discriminator has little left to say about which of two fakes is better
RANKS_NONE = 0.6  # of pairs: below it, and with samples far away, it has nothing to say
VANISHED = 1e-3  # norm of a generator's gradient that is hardly a direction any more; in health it is 1e-2 and more
MEMORISES = 0.75  # of pairs (training example, held-out example): an unread half would be 0.5
SQUEEZED = 0.5  # share of the real examples' mean distance from each other, below which samples are too much alike
SHARP = 0.8  # share of samples within a mode's radius above which those outside stand for nothing
MISSING = 0.1  # share of its real part among the samples, below which a mode is missing
EXPECTED = 10  # samples that a mode must have by right to be judged: none of 10 comes by chance once in 20,000 times
UNEVEN = 0.7  # entropy of the modes' shares relative to the real ones'
PAST = 1.5  # times the best distance: what the noise of training rarely does
LAGS = 2.0  # times the raw weights' distance
ERRORS = 4  # standard errors that make a difference real
REGIONS = 16  # of k-means, where there are no labels
EVERY_OPTION = ("lr_d", "lr_g", "r1", "r2", "loss", "pack", "augment", "width", "hidden", "ema")


# -- pure functions -----------------------------------------------------------------------------------------------


def entropy(shares: Tensor) -> float:
    """Of shares (K,), brought to a sum of 1; nats. Of nothing it is 0."""
    return float(torch.special.entr(shares / shares.sum().clamp(min=1e-12)).sum())


@dataclass(frozen=True)
class Modes:
    """Which class or region an example belongs to.

    kind      "classes" (of the data's labels) or "regions" (k-means of the training set)
    centres   (K, d) float64 features; None where an evaluator knows the classes
    radius    (K,) distance from its centre within which 99 % of a class's real examples lie; None: no example is too far
    """

    kind: str
    size: int
    evaluator: Evaluator | None = None
    centres: Tensor | None = None
    radius: Tensor | None = None

    def of(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (n, d) -> the mode of each, int64 (n,), and whether it lies within that mode's radius, bool (n,)."""
        if self.evaluator is not None:
            mode = self.evaluator.logits(features).argmax(1)
            return mode, torch.ones_like(mode, dtype=torch.bool)
        distance, mode = torch.cdist(
            features, self.centres, compute_mode="donot_use_mm_for_euclid_dist"
        ).min(1)
        return mode, distance <= self.radius[mode] if self.radius is not None else torch.ones_like(
            mode, dtype=torch.bool
        )

    def shares(self, features: Tensor) -> tuple[Tensor, float]:
        """Share of features (n, d) in each mode, (K,) float64, and that within a radius.

        What lies between the modes counts for the nearest one while samples are blurred, so that a young generator
        has not "collapsed"; once most are sharp it counts for none.
        """
        mode, inside = self.of(features)
        good = float(inside.double().mean())
        counted = mode[inside] if good >= SHARP else mode
        return torch.bincount(counted, minlength=self.size).double() / len(mode), good


def modes_of(reference: Reference, dataset: Dataset, rng: Rng) -> Modes:
    """An evaluator's classes; else the labels' class means in feature space; without labels, or with too many, regions of the
    training set."""
    x, y = reference.train, dataset.split("train").labels

    def in_regions():
        return Modes("regions", len(centres := regions(x, rng)), centres=centres)

    if getattr(reference.map, "classes", 0):
        return Modes("classes", reference.map.classes, evaluator=reference.map)
    if y is None:
        return in_regions()
    y = torch.from_numpy(y[: len(x)])
    parts = [x[y == label] for label in y.unique()]
    if (
        sum(len(part) for part in parts if len(part) * reference.n >= EXPECTED * len(x))
        < len(x) / 2
    ):
        return in_regions()  # so many classes that samples would say nothing of most of them
    centres = torch.stack([part.mean(0) for part in parts])
    if dataset.spec.kind == "image":
        return Modes("classes", len(parts), centres=centres)
    radius = torch.stack(
        [(part - centre).norm(dim=1).quantile(0.99) for part, centre in zip(parts, centres)]
    )
    return Modes("classes", len(parts), centres=centres, radius=radius)


def regions(x: Tensor, rng: Rng) -> Tensor:
    """Centres (K, d) of at most 16 regions of x (n, d), of ten rows or more: fewer are no region, but examples."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than regions
        found = KMeans(
            max(1, min(REGIONS, len(x) // EXPECTED)),
            n_init=1,
            random_state=rng.key("regions") % 2**32,
        ).fit(x.numpy())
    large = np.bincount(found.labels_, minlength=found.n_clusters) >= EXPECTED
    return torch.from_numpy(found.cluster_centers_[large if large.any() else slice(1)]).double()


def histogram(fake: Tensor, real: Tensor, n: int) -> dict:
    """Shares of the modes among n samples and among real examples, each (K,) -> what a person wants to know.

    modes: how many can be judged, since n real examples would have 10 or more of them; modes_seen: of these;
    entropy: of the samples' shares, over that of the real ones'.
    """
    judged = real * n >= EXPECTED
    seen = judged & (fake >= MISSING * real)
    whole = entropy(real)
    return {
        "modes": int(judged.sum()),
        "modes_seen": int(seen.sum()),
        "entropy": entropy(fake) / whole if whole > 1e-9 else 1.0,
    }


def verdicts(
    duel: dict,
    gradients: dict[str, float],
    best: dict,
    kind: str = "image",
    known: Collection[str] = EVERY_OPTION,
) -> list[str]:
    """What is wrong with a duel, each sentence with its mend; empty when nothing is.

    duel: as ``Watch.look`` makes it; gradients: phase -> mean norm in this interval, which may lack phases that had no
    turn; best: {"step", "value"} of the smallest distance so far; kind: of the data; known: options that a mend may name.
    """
    mend = partial(mends, known)
    found, far = [], duel["raw_relative"] > FAR  # of the weights that D plays against
    judge, value, noise = duel["separation"], duel["distance"], ERRORS * duel["distance_error"]
    pairs = f"it ranks {100 * judge:.1f} % of pairs right"
    generator = [norm for name, norm in gradients.items() if not is_discriminator(name)]
    vanished = bool(generator) and max(generator) < VANISHED
    missing, uneven = (
        duel["modes_seen"] < duel["modes"],
        duel["modes"] > 1 and duel["entropy"] < UNEVEN,
    )
    if judge > RANKS_ALL and (vanished or far):
        sign = (
            f"the generator's gradient is {max(generator):.1g}"
            if vanished
            else "the samples are far from the data"
        )
        found.append(f"D wins: {pairs} and {sign}: {mend('lower --lr-d', 'raise --r1 and --r2')}")
    if judge < RANKS_NONE and far:
        found.append(
            f"D has lost: {pairs}, though the samples are far from the data: {mend('raise --lr-d', 'lower --lr-g', 'lower --r1 and --r2')}"
        )
    if missing or uneven:
        near = f", {100 * duel['good']:.0f} % of them near any" if "good" in duel else ""
        how = f"{duel['modes_seen']} of {duel['modes']} modes ({duel['kind']}) among the samples{near}"
        if not missing:
            how = f"samples crowd into few of the {duel['modes']} modes ({duel['kind']}), with {100 * duel['entropy']:.0f} % of the real shares' entropy"
        found.append(
            f"mode collapse: {how}: {mend('take --loss relativistic', 'raise --r1 and --r2', 'take --pack 2')}"
        )
    elif duel["diversity"] < SQUEEZED:
        found.append(
            f"low diversity: samples differ from each other {duel['diversity']:.2f} times as much as real examples: {mend('raise --r1 and --r2', 'take --pack 2')}"
        )
    if (
        duel["memorising"] - duel["memorising_error"] * ERRORS > 0.5
        and duel["memorising"] > MEMORISES
    ):
        fewer = (
            ("take --augment translation", "take a smaller --width")
            if kind == "image"
            else ("take smaller --hidden layers",)
        )
        found.append(
            f"D is memorising: it ranks {100 * duel['memorising']:.0f} % of training examples above held-out ones, where 50 % would be fair: {mend(*fewer, 'raise --r1')}"
        )
    if duel["relative"] > NEAR and value > PAST * best["value"] and value - best["value"] > noise:
        found.append(
            f"past its best: the distance was {best['value']:.3g} at step {best['step']} and is {value:.3g} now: take `--checkpoint best`, and next time {mend('lower --lr-d and --lr-g', 'lower --lr-d', 'lower --lr', most=1)}"
        )
    if (
        duel["relative"] > NEAR
        and value > LAGS * duel["raw_distance"]
        and value - duel["raw_distance"] > noise
    ):
        found.append(
            f"the averaged weights lag behind: their distance is {value:.3g}, that of the raw ones {duel['raw_distance']:.3g}: lower --ema (of --averages the width), or train longer"
        )
    return found


def mends(known: Collection[str], *texts: str, most: int = 3) -> str:
    """The texts whose options are all known, in order, joined for a sentence; at most so many. All, when none is known."""
    flags = [re.findall(r"--([a-z][a-z0-9-]*)", text) for text in texts]
    left = [
        text
        for text, names in zip(texts, flags)
        if all(name.replace("-", "_") in known for name in names)
    ]
    return " or ".join((left or texts)[:most])


def is_discriminator(phase: str) -> bool:
    return any(word in phase.lower() for word in ("discriminator", "critic", "judge"))


# -- one look at a duel -------------------------------------------------------------------------------------------


class AdversarialMonitor:
    """Looks at the duel of a model at each interval, against one fixed set of real examples."""

    def __init__(
        self, dataset: Dataset, options: BaseConfig | None, examples: int, rng: Rng, device="cpu"
    ):
        self.reference, self.options = Reference(dataset, examples, rng.at("duel"), device), options
        self.modes = modes_of(self.reference, dataset, rng.at("duel"))
        self.real_shares, _ = self.modes.shares(self.reference.train)
        self.real_apart = mean_distance(at_least_two(self.reference.held_out))

    def measure(self, model: Family, averaged: Family) -> tuple[dict[str, float], dict]:
        """Held-out terms (``value``: the averaged weights' distance), and the duel in numbers, empty unless all are finite.

        separation         P(D(real) > D(fake)) on training examples; separation_held_out: on held-out ones; the raw weights
        memorising         P(D(training example) > D(held-out example))
        relative           the distance as a share of what the data's mean alone would score; raw_relative: the raw weights'
        diversity          mean distance between samples over that between held-out examples
        modes, modes_seen, entropy, kind, good    see ``histogram`` and ``Modes``; of the averaged weights' samples
        """
        real = self.reference
        drawn = [real.draw(weights, self.options) for weights in (averaged, model)]
        if None in drawn:
            return {"value": math.inf}, {}
        (fakes, self.scores), (raw, fake_scores) = drawn
        train, held_out = (real.judged(model, split) for split in ("train", "validation"))
        if not all(bool(torch.isfinite(scores).all()) for scores in (fake_scores, train, held_out)):
            return {"value": math.inf}, {}
        distance, raw_distance = real.distance(fakes), real.distance(raw)
        shares, good = self.modes.shares(fakes)

        def share(distance):
            return distance.value / real.spread if real.spread else 0.0

        independent = [
            len(scores) / getattr(model.config, "pack", 1) for scores in (train, held_out)
        ]  # a pack has one score
        numbers = {
            "separation": separation(train, fake_scores),
            "separation_held_out": separation(held_out, fake_scores),
            "memorising": separation(train, held_out),
            "memorising_error": math.sqrt((sum(independent) + 1) / (12 * math.prod(independent))),
            "distance": distance.value,
            "distance_error": distance.se,
            "raw_distance": raw_distance.value,
            "relative": share(distance),
            "raw_relative": share(raw_distance),
            "diversity": mean_distance(fakes) / self.real_apart if self.real_apart else 1.0,
            **histogram(shares, self.real_shares, real.n),
            "kind": self.modes.kind,
            **({"good": good} if self.modes.radius is not None else {}),
            "features": real.map.name,
        }
        terms = {
            "value": distance.value,
            real.name: distance.value,
            "raw_distance": raw_distance.value,
        }
        return terms, numbers

    def calibration_scores(self, averaged: Family) -> tuple[Tensor, Tensor]:
        """Scores by the averaged weights of held-out examples and of the last look's samples, (n,) each, of one label."""
        held_out = self.reference.judged(averaged, "validation")
        return held_out[torch.arange(len(self.scores)) % self.reference.m], self.scores


def at_least_two(x: Tensor) -> Tensor:
    return x if len(x) > 1 else x.repeat(2, 1)
