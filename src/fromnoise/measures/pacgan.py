"""Modes by PacGAN's protocol (Lin et al. 2018): how many of K equal modes samples hit, how evenly.

For data with known modes: separate Gaussians, where a sample belongs to the nearest centre
within three standard deviations (2,500 samples), or images whose channels are classified one by one
(26,000 samples, each of which belongs to a mode). The divergence is of the modes' shares among the
samples that belong to one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..data.dataset import Dataset
from .estimate import Estimate, share
from .evaluator import Evaluator, shipped_for
from .labels import divergence_from_uniform, mode_of, modes_hit, share_within

RADIUS = 3.0  # standard deviations
POINTS = 2_500  # samples of the protocol for Gaussians
STACKED = 26_000  # samples of the protocol for images of several channels


@dataclass(frozen=True)
class ModeProtocol:
    """K equal modes, and the mode of an example.

    count       K
    most        samples that the protocol uses
    index       x (n, *shape) in model form -> (n,) int64, -1 for no mode
    good        share of a perfect model's samples that belong to a mode
    classifier  the name of what assigns modes: part of the number's card
    """

    count: int
    most: int
    index: Callable[[Tensor], Tensor]
    good: float
    classifier: str

    def estimates(self, index: Tensor) -> dict[str, Estimate]:
        """index (n,): the mode of each sample, -1 for none. Names of metrics -> estimates.

        modes always; good_samples where a perfect model has samples without a mode; mode_kl (nats)
        where any sample has a mode.
        """
        good = index[index >= 0]
        estimates = {"modes": modes_hit(index, self.count, self.good)}
        if self.good < 1:
            estimates["good_samples"] = share(len(good), len(index), self.good)
        if len(good):
            divergence = divergence_from_uniform(good, self.count)
            estimates["mode_kl"] = replace(divergence, n=len(index))  # n: all samples
        return estimates


def find_modes(dataset: Dataset) -> ModeProtocol | None:
    """The modes of data that have separate ones; None otherwise."""
    if dataset.modes is not None:
        centres, std = dataset.modes
        return ModeProtocol(
            len(centres),
            POINTS,
            partial(nearest_centre, centres=torch.as_tensor(centres).double(), radius=RADIUS * std),
            share_within(RADIUS, dataset.spec.dims),
            "nearest centre/3 std",
        )
    if dataset.channels_of:
        channels, height, width = dataset.spec.shape
        spec = replace(dataset.spec, shape=(1, height, width), classes=0)
        classifier = shipped_for(Dataset(dataset.channels_of, spec, {}, ""))
        if classifier is not None and classifier.classes:
            return ModeProtocol(
                classifier.classes**channels,
                STACKED,
                partial(classify_channels, classifier=classifier),
                1.0,
                f"{classifier.name} by channel",
            )
    return None


def nearest_centre(x: Tensor, centres: Tensor, radius: float) -> Tensor:
    """x (n, *shape): the number of the nearest centre (K, d), -1 beyond the radius; (n,)."""
    return mode_of(x.flatten(1).cpu().double(), centres=centres, radius=radius)


def classify_channels(x: Tensor, classifier: Evaluator) -> Tensor:
    """x (n, C, H, W) -> the classes of its channels as one number in 0 .. K^C - 1, (n,).

    K: classes of the classifier; the class of the first channel is the leading digit.
    """
    n, channels = x.shape[:2]
    images = x.reshape(n * channels, 1, *x.shape[2:])
    digits = classifier.logits(classifier(images)).argmax(1).view(n, channels)
    return (digits * classifier.classes ** torch.arange(channels - 1, -1, -1)).sum(1)


def estimate_modes(dataset: Dataset, x: Tensor) -> dict[str, Estimate]:
    """The protocol's metrics of samples x (n, *shape) in model form; the data must have modes."""
    modes = find_modes(dataset)
    assert modes is not None, dataset.name
    return modes.estimates(modes.index(x[: modes.most]))
