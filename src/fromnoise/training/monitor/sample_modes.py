"""Modes of the data (classes, or clusters), and how many of them samples cover."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.rng import Rng
from ...data.dataset import Dataset
from ...measures.evaluator import Evaluator
from .sample_reference import SampleReference

SHARP = 0.8  # share of samples within a mode's radius above which the others are not counted
MISSING = 0.1  # times its real share, below which a mode is missing among the samples
# expected samples of a mode that is judged: none of 10 comes by chance once in 20,000 times
EXPECTED = 10
CLUSTERS = 16  # of k-means, where there are no labels
RADIUS_SHARE = 0.99  # of a class's real examples that lie within its radius


@dataclass(frozen=True)
class SampleModes:
    """Which class or cluster an example belongs to.

    kind       "classes" (of the data's labels) or "regions" (k-means clusters of the training set)
    evaluator  classifies features; None where the nearest centre does
    centres    (K, d) float64 features
    radius     (K,) distance from its centre within which 99 % of a class's real examples lie;
               None: no example is too far
    """

    kind: str
    size: int
    evaluator: Evaluator | None = None
    centres: Tensor | None = None
    radius: Tensor | None = None

    def assign(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (n, d) -> the mode of each, int64 (n,), and whether it lies within that mode's
        radius, bool (n,)."""
        if self.evaluator is not None:
            mode = self.evaluator.logits(features).argmax(1)
            return mode, torch.ones_like(mode, dtype=torch.bool)
        exact = "donot_use_mm_for_euclid_dist"
        distance, mode = torch.cdist(features, self.centres, compute_mode=exact).min(1)
        if self.radius is None:
            return mode, torch.ones_like(mode, dtype=torch.bool)
        return mode, distance <= self.radius[mode]

    def shares(self, features: Tensor) -> tuple[Tensor, float]:
        """Share of features (n, d) in each mode, (K,) float64, and the share within a radius.

        Samples between the modes count for the nearest one while most samples are blurred, so that
        an early generator has not "collapsed"; once most are sharp they count for none.
        """
        mode, is_inside = self.assign(features)
        good = float(is_inside.double().mean())
        counted = mode[is_inside] if good >= SHARP else mode
        return torch.bincount(counted, minlength=self.size).double() / len(mode), good


def find_modes(reference: SampleReference, dataset: Dataset, rng: Rng) -> SampleModes:
    """An evaluator's classes; else the class means of the labels in feature space; clusters of the
    training set without labels, or with so many classes that most would have too few samples."""
    x = reference.train
    labels = dataset.split("train").labels
    if getattr(reference.map, "classes", 0):
        return SampleModes("classes", reference.map.classes, evaluator=reference.map)
    if labels is None:
        return cluster_modes(x, rng)
    y = torch.from_numpy(labels[: len(x)])
    classes = [x[y == label] for label in y.unique()]
    judged = sum(len(rows) for rows in classes if len(rows) * reference.n >= EXPECTED * len(x))
    if judged < len(x) / 2:
        return cluster_modes(x, rng)
    centres = torch.stack([rows.mean(0) for rows in classes])
    if dataset.spec.kind == "image":
        return SampleModes("classes", len(classes), centres=centres)
    radius = torch.stack(
        [
            (rows - centre).norm(dim=1).quantile(RADIUS_SHARE)
            for rows, centre in zip(classes, centres)
        ]
    )
    return SampleModes("classes", len(classes), centres=centres, radius=radius)


def cluster_modes(x: Tensor, rng: Rng) -> SampleModes:
    centres = cluster_centres(x, rng)
    return SampleModes("regions", len(centres), centres=centres)


def cluster_centres(x: Tensor, rng: Rng) -> Tensor:
    """Centres (K, d) of at most 16 clusters of x (n, d), each of ten rows or more."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    k_means = KMeans(
        max(1, min(CLUSTERS, len(x) // EXPECTED)),
        n_init=1,
        random_state=rng.key("regions") % 2**32,
    )
    with warnings.catch_warnings(), threadpool_limits(1):
        # fewer different rows than clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        k_means.fit(x.numpy())
    is_large = np.bincount(k_means.labels_, minlength=k_means.n_clusters) >= EXPECTED
    centres = k_means.cluster_centers_[is_large if is_large.any() else slice(1)]
    return torch.from_numpy(centres).double()


def mode_coverage(fake: Tensor, real: Tensor, n: int) -> dict:
    """Shares of the modes among n samples and among real examples, each (K,) -> numbers.

    modes       how many can be judged: n real examples would have 10 or more of them
    modes_seen  how many of these are among the samples
    entropy     of the samples' shares, over that of the real ones'
    """
    is_judged = real * n >= EXPECTED
    is_seen = is_judged & (fake >= MISSING * real)
    real_entropy = entropy(real)
    return {
        "modes": int(is_judged.sum()),
        "modes_seen": int(is_seen.sum()),
        "entropy": entropy(fake) / real_entropy if real_entropy > 1e-9 else 1.0,
    }


def entropy(shares: Tensor) -> float:
    """Of shares (K,), scaled to a sum of 1; nats. 0 if all are 0."""
    return float(torch.special.entr(shares / shares.sum().clamp(min=1e-12)).sum())
