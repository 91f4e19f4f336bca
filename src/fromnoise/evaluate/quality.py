"""How real, how varied and how new a set of samples is: everything that needs the samples only.

A ``Yardstick`` holds the feature maps and the features of real examples, computed once for many
sets of samples. Beside each number stands what held-out real examples score in the samples' place,
wherever that is defined.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..measures import coverage, distances, frechet, labels, memory, pyramid, twosample
from ..measures.estimate import Estimate, NoSpreadError, NotFiniteError
from ..measures.evaluator import Evaluator
from ..measures.features import (
    FeatureMap,
    PrincipalComponents,
    extract,
    of_split,
    untrained_features,
)
from .modes import Modes, modes_of
from .protocol import absent, row

REFERENCE = 20_000  # training examples that distances are measured to
NEIGHBOURS = 5_000  # examples on each side for the metrics that need all pairs of neighbours
TOLD_APART = 2_000  # examples on each side that the classifier learns from and is tested on
FEWEST = 50  # samples: below this there is nothing to say
CONTROL = 100  # held-out examples that can stand in the samples' place


@dataclass(frozen=True)
class Samples:
    """n samples in model form, made in blocks when asked for, so that large ones never stand in
    memory together.

    y      the labels that were asked for (n,), or None
    drawn  how they were drawn, in a few words: part of the protocol
    """

    n: int
    blocks: Callable[[], Iterator[Tensor]]
    y: Tensor | None = None
    drawn: str = ""

    @staticmethod
    def of(x: Tensor, y: Tensor | None = None, drawn: str = "") -> "Samples":
        return Samples(len(x), lambda: iter(x.split(1000)), y, drawn)

    def checked(self, dataset: Dataset) -> Iterator[Tensor]:
        """The blocks as a user receives them. Raises DataError unless they are finite, of the
        data's shape and range.
        """
        shape = dataset.spec.shape
        for x in self.blocks():
            if tuple(x.shape[1:]) != shape:
                raise DataError(
                    f"the samples have shape {tuple(x.shape[1:])}, {dataset.name} has {shape}: "
                    "nothing can be measured"
                )
            if not bool(torch.isfinite(x).all()):
                raise DataError(
                    "some samples are not finite numbers (NaN or infinite): nothing can be "
                    "measured; did the training diverge?"
                )
            if (
                dataset.spec.kind == "image" and float(x.abs().max()) > 10
            ):  # linear models overshoot a little
                raise DataError(
                    f"images lie in [-1, 1], and these samples reach {float(x.abs().max()):.3g}: "
                    "nothing can be measured"
                )
            yield x.clamp(-1, 1) if dataset.spec.kind == "image" else dataset.as_delivered(x)


class Scales:
    """The distance of patches, scale by scale: n samples and as many real examples, cut at the same
    places.
    """

    def __init__(self, dataset: Dataset, n: int, rng: Rng):
        self.dataset, self.n, self.rng, self.patches = dataset, n, rng, pyramid.patches_of(n)
        self.places = pyramid.places(dataset.spec.shape, n, self.patches, rng.at("places"))

    def cut(self, x: Tensor, start: int) -> list[Tensor]:
        """Patches of a block of images, the first of which is number ``start``."""
        x = x[: self.n - start]
        return pyramid.cut(x, [corner[start : start + len(x)] for corner in self.places])

    def of_split(self, split: str) -> list[Tensor]:
        return pyramid.cut_all(
            (batch.x for batch in in_order(self.dataset, split, limit=self.n)), self.places
        )

    @cached_property
    def train(self) -> list[Tensor]:
        return self.of_split("train")

    def distances(self, patches: list[Tensor]) -> list[Estimate]:
        return pyramid.compare(patches, self.train, self.rng.at("slices"))

    @cached_property
    def of_test(self) -> list[Estimate]:
        return self.distances(self.of_split("test"))


class QualityReference:
    """What samples are measured against.

    evaluator  the trained feature map, first of ``maps`` where there is one; the referees follow
    quick      fewer real examples on either side, for a first look
    """

    def __init__(self, dataset: Dataset, evaluator: FeatureMap | None = None, quick: bool = False):
        assert dataset.spec.kind != "tokens", "text is measured by a TextYardstick"
        self.dataset, self.evaluator = dataset, evaluator
        self.most = (
            {"train": REFERENCE // 4, "test": REFERENCE // 16}
            if quick
            else {"train": REFERENCE, "test": REFERENCE}
        )
        self.maps: list[FeatureMap] = ([evaluator] if evaluator else []) + untrained_features(
            dataset
        )
        self._known: dict[tuple[str, str, bool], Tensor] = {}
        self._modes_of_test = torch.zeros(0, dtype=torch.int64)
        self._scales: dict[tuple[int, int], Scales] = {}

    def features(self, feature_map: FeatureMap, split: str, everything: bool = False) -> Tensor:
        """Of the first ``most`` examples of a split, or of all of them."""
        key = (feature_map.name, split, everything)
        if key not in self._known:
            self._known[key] = of_split(
                feature_map, self.dataset, split, None if everything else self.most[split]
            )
        return self._known[key]

    def scales(self, n: int, rng: Rng) -> Scales | None:
        """For n samples, or as many of them as are measured; None for what is no image, or is below
        16 pixels.
        """
        spec = self.dataset.spec
        if spec.kind != "image" or min(spec.shape[1:]) < pyramid.COARSEST:
            return None
        n = pyramid.images_of(spec.shape, n, self.most["train"], len(self.dataset.split("train")))
        if (n, rng.seed) not in self._scales:
            self._scales = {
                (n, rng.seed): Scales(self.dataset, n, rng.at("pyramid"))
            }  # patches are large: one set of them
        return self._scales[n, rng.seed]

    @cached_property
    def modes(self) -> Modes | None:
        return modes_of(self.dataset)

    def modes_of_test(self, n: int) -> Tensor:
        """Which mode each of the first n test examples belongs to; fewer where there are fewer."""
        n = min(n, len(self.dataset.split("test")))
        if len(self._modes_of_test) < n:
            self._modes_of_test = torch.cat(
                [self.modes.index(batch.x) for batch in in_order(self.dataset, "test", limit=n)]
            )
        return self._modes_of_test[:n]

    @cached_property
    def pixels(self) -> FeatureMap:
        """The map that nearness to training examples is judged by: nothing trained, near the pixels
        themselves.
        """
        return next(
            (m for m in self.maps if m.name.startswith(("pca", "projection", "columns"))), None
        ) or PrincipalComponents(self.dataset)

    def labels(self, split: str) -> Tensor:
        """Of the same examples as the features."""
        return torch.from_numpy(self.dataset.split(split).y[: self.most[split]])


def quality(quality_reference: QualityReference, samples: Samples, seed: int = 0) -> list[dict]:
    """Rows of a report about a set of samples. Raises UsageError (too few), DataError (not finite,
    shape, range).
    """
    if samples.n < FEWEST:
        raise UsageError(
            f"{samples.n} samples are too few to measure anything: take {FEWEST} or more"
        )
    rng = Rng(seed, ("quality",))
    features: dict[str, list[Tensor]] = {m.name: [] for m in quality_reference.maps}
    modes, scales = quality_reference.modes, quality_reference.scales(samples.n, rng)
    index, patches, done = [], [], 0
    for x in samples.checked(quality_reference.dataset):
        for m in quality_reference.maps:
            features[m.name].append(extract(m, [x]))
        if modes and done < modes.most:
            index.append(modes.index(x[: modes.most - done]))
        if scales and done < scales.n:
            patches.append(scales.cut(x, done))
        done += len(x)
    found = {name: torch.cat(parts) for name, parts in features.items()}
    rows = []
    for m in quality_reference.maps:
        rows += _frechet(quality_reference, m, found[m.name])
    main = quality_reference.maps[0]
    x = found[main.name]
    rows += _others(quality_reference, main, x, rng)
    if scales:
        rows += _scales(scales, [torch.cat(level) for level in zip(*patches)])
    rows += _labels(quality_reference, x, samples)
    if modes:
        rows += _modes(quality_reference, modes, torch.cat(index))
    rows += _memory(quality_reference, found[quality_reference.pixels.name])
    return [found | {"drawn": samples.drawn, "seed": seed} for found in rows]


def reference(dataset: Dataset, split: str, m: int) -> str:
    """Names the real examples that something was measured against."""
    return f"{dataset.digest[:12]}:{split}[:{m}]"


def attempt(
    name: str, words: str, unit: str, measure: Callable, real: Callable | None = None, **card
) -> dict:
    """A row, or its absence in the words of the refusal. real: the same measure with real examples
    as the samples.
    """
    try:
        found = measure()
    except (UsageError, NotFiniteError, NoSpreadError) as error:
        return absent(
            name,
            words,
            unit,
            str(error),
            **{key: value for key, value in card.items() if key != "reason"},
        )
    control = None
    if real is not None:
        try:
            control = real()
        except (UsageError, NotFiniteError, NoSpreadError):  # too few real examples to say
            pass
    return row(name, words, found, unit, real=control, **card)


def _frechet(quality_reference: QualityReference, m: FeatureMap, x: Tensor) -> list[dict]:
    dataset, rows = quality_reference.dataset, []
    train, test = quality_reference.features(m, "train"), quality_reference.features(m, "test")
    for split, y, name, words in (
        ("train", train, "frechet", "Fréchet distance"),
        ("test", test, "frechet_held_out", "Fréchet distance to held-out examples"),
    ):
        real = (
            (lambda: frechet.frechet(test, train))
            if split == "train" and len(test) >= CONTROL
            else None
        )
        card = dict(
            split=split,
            reference=reference(dataset, split, len(y)),
            evaluator=m.name,
            better="lower",
        )
        card["group"] = (
            "samples" if m is quality_reference.maps[0] and split == "train" else "referees"
        )
        rows.append(
            attempt(
                name,
                words,
                "squared feature units",
                lambda y=y: frechet.frechet(x, y),
                real,
                **card,
            )
        )
    return rows


def _others(quality_reference: QualityReference, m: FeatureMap, x: Tensor, rng: Rng) -> list[dict]:
    """What needs all pairs of points: by the main feature map only, on fewer points."""
    train, test = quality_reference.features(m, "train"), quality_reference.features(m, "test")
    few, some = min(len(train), NEIGHBOURS), min(len(x), len(train), TOLD_APART)
    n = min(len(x), few)

    def kernel(z, trained=False):
        return distances.scaled_kernel_distance(z, train, few, trained)

    def sliced(z):
        return distances.sliced_wasserstein(z, train, rng.at("sliced"))

    def apart(z):
        return twosample.two_sample_accuracy(z[:some], train[:some], rng.at("two-sample"))

    def control(measure):
        return (lambda: measure(test)) if len(test) >= CONTROL else None

    def card(count):
        return dict(
            split="train",
            reference=reference(quality_reference.dataset, "train", count),
            evaluator=m.name,
            group="samples",
        )

    rows = [
        attempt(
            "kernel_distance",
            "kernel distance",
            "squared mean discrepancy",
            lambda: kernel(x, True),
            control(kernel),
            better="lower",
            **card(few),
        ),
        attempt(
            "sliced_wasserstein",
            "sliced Wasserstein distance",
            "squared feature units",
            lambda: sliced(x),
            control(sliced),
            better="lower",
            **card(len(train)),
        ),
        attempt(
            "two_sample",
            "told apart by a classifier",
            "share",
            lambda: apart(x),
            control(apart),
            better="lower",
            **card(some),
        ),
    ]
    by_samples = cache(lambda: neighbours(x[:n], train[:n]))
    by_real = cache(lambda: neighbours(test[:n], train[:n]))
    for name in ("precision", "recall", "density", "coverage"):
        # recall and coverage depend on how many samples there are
        fair = len(test) >= n or (name in ("precision", "density") and len(test) >= CONTROL)
        unit = "balls of real examples around a sample, relative" if name == "density" else "share"
        k = coverage.K if name in ("precision", "recall") else coverage.K_COVERAGE
        rows.append(
            attempt(
                name,
                name,
                unit,
                lambda name=name: by_samples()[name],
                (lambda name=name: by_real()[name]) if fair else None,
                better="higher",
                k=k,
                **card(n),
            )
        )
    return rows


def neighbours(x: Tensor, y: Tensor) -> dict[str, Estimate]:
    """``coverage.manifold``; NoSpreadError where all rows of the reference are equal but for
    rounding.
    """
    frechet.refuse_equal(y)
    return coverage.manifold(x, y)


def _scales(scales: Scales, patches: list[Tensor]) -> list[dict]:
    """Patches of all scales and of each; of images with one scale, once."""
    dataset, n = scales.dataset, scales.n
    found = cache(lambda: scales.distances(patches))
    names, rows = pyramid.names_of(dataset.spec.shape), []
    # the distance of two draws depends on how many there are
    fair = len(dataset.split("test")) >= n
    card = dict(
        split="train",
        reference=reference(dataset, "train", n),
        evaluator=f"pyramid/{scales.patches} patches of 7x7 an image",
        group="referees",
        better="lower",
    )
    for i, name in enumerate(names if len(names) > 2 else names[:1]):
        which = (
            ""
            if i == 0
            else f", details of {name} pixels"
            if i < len(names) - 1
            else f", what is left at {name} pixels"
        )
        label = "sliced Wasserstein distance of patches" + which
        control = (lambda i=i: scales.of_test[i]) if fair else None
        rows.append(
            attempt(
                "pyramid_swd" + (f"_{name}" if i else ""),
                label,
                "thousandths of a deviation",
                lambda i=i: found()[i],
                control,
                **card,
            )
        )
    return rows


def _modes(quality_reference: QualityReference, modes: Modes, index: Tensor) -> list[dict]:
    """By PacGAN's protocol, beside as many test examples."""
    n, test = len(index), quality_reference.modes_of_test(len(index))
    found, real = modes.estimates(index), modes.estimates(test) if len(test) == n else {}
    card = dict(
        n=n,
        m=None,
        reference=f"{quality_reference.dataset.digest[:12]}:modes",
        evaluator=modes.judge,
        group="labels",
    )
    about = {
        "modes": ("modes that samples hit", "modes", dict(of=modes.count, better="higher")),
        "good_samples": ("samples that belong to a mode", "share", dict(better="higher")),
        "mode_kl": (
            "divergence of the modes' shares from equal ones",
            "nats",
            dict(better="lower"),
        ),
    }
    rows = []
    for name, (label, unit, more) in about.items():
        if name in found:
            rows.append(row(name, label, found[name], unit, real=real.get(name), **card, **more))
        elif name == "mode_kl":
            rows.append(absent(name, label, unit, "no sample belongs to a mode", **card, **more))
    return rows


def _labels(quality_reference: QualityReference, x: Tensor, samples: Samples) -> list[dict]:
    """By an evaluator that knows classes: how often each class comes, and whether samples are what
    was asked for.
    """
    evaluator, dataset = quality_reference.evaluator, quality_reference.dataset
    if not isinstance(evaluator, Evaluator) or not evaluator.classes:
        return []
    card = dict(
        evaluator=evaluator.name,
        group="labels",
        reference=reference(dataset, "test", len(quality_reference.features(evaluator, "test"))),
    )
    test, truth = quality_reference.features(evaluator, "test"), quality_reference.labels("test")
    seen, real = evaluator.logits(x).argmax(1), evaluator.logits(test).argmax(1)
    rows = [
        row(
            "classes_seen",
            "classes that samples fall into",
            labels.classes_seen(seen, real, evaluator.classes),
            "classes",
            of=evaluator.classes,
            better="higher",
            **card,
        )
    ]
    if samples.y is None:
        unit = "chi-squared per degree of freedom"
        rows.append(
            attempt(
                "class_histogram",
                "classes in other shares than real",
                unit,
                lambda: labels.class_chi_square(seen, real, evaluator.classes),
                better="lower",
                **card,
            )
        )
        return rows
    train, train_y = (
        quality_reference.features(evaluator, "train"),
        quality_reference.labels("train"),
    )

    def score(z, y):
        return labels.classification_accuracy_score(z, y, test, truth)

    rows.append(
        attempt(
            "label_agreement",
            "samples of the class asked for",
            "share",
            lambda: labels.label_agreement(seen, samples.y),
            lambda: labels.label_agreement(real, truth),
            better="higher",
            **card,
        )
    )
    rows.append(
        attempt(
            "classification_accuracy_score",
            "accuracy of a classifier trained on samples",
            "share",
            lambda: score(x, samples.y),
            lambda: score(train[: len(x)], train_y[: len(x)]),
            better="higher",
            n=len(x),
            m=len(test),
            **card,
        )
    )
    return rows


def _memory(quality_reference: QualityReference, x: Tensor) -> list[dict]:
    m = quality_reference.pixels
    train, test = (
        quality_reference.features(m, "train", everything=True),
        quality_reference.features(m, "test"),
    )
    card = dict(
        split="train",
        reference=reference(quality_reference.dataset, "train", len(train)),
        evaluator=m.name,
        group="memory",
        better="near",
    )
    copies, about = (lambda: memory.near_copy_rate(x, train, test)), {}
    if len(test) + 1 < CONTROL:  # 1 % of fewer is none

        def copies():
            return memory.near_copy_rate_within(x, train)

        why = (
            f"{len(test)} held-out examples are too few for a control: each training example "
            "against the others instead (leave-one-out)"
        )
        about = {"reference": card["reference"] + ", leave-one-out", "reason": why}
    return [
        attempt("near_copies", "near-copies of training examples", "share", copies, **card | about),
        attempt(
            "duplicates",
            "samples that repeat another sample",
            "share",
            lambda: memory.duplicates(x, test),
            **card,
        ),
    ]


def nearest_training(quality_reference: QualityReference, x: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to and row of the nearest training example of each sample, (n,) each, by
    ``yardstick.pixels``.
    """
    train = quality_reference.features(quality_reference.pixels, "train", everything=True)
    distance, row = memory.nearest(extract(quality_reference.pixels, [x]), train)
    return distance[:, 0], row[:, 0]
