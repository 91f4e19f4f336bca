"""Modes by PacGAN's protocol (Lin et al. 2018): how many of K equal modes samples find, and how
evenly.

Asked for by what the data know of themselves, not by their names: separate Gaussians, where a
sample belongs to the nearest centre if that is within three standard deviations (2,500 samples), or
images whose channels are classified one by one (26,000 samples, each of which belongs to a mode).
The divergence is of the modes' shares among the samples that belong to one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..measures import labels
from ..measures.estimate import Estimate, share
from ..measures.evaluator import Evaluator, shipped_for

GOOD = 3.0  # standard deviations
POINTS, STACKED = 2_500, 26_000  # samples of the protocols


@dataclass(frozen=True)
class Modes:
    """K equal modes, and which of them an example belongs to.

    most    samples that the protocol looks at
    index   x (n, *shape) in model form -> (n,) int64, -1 for none
    good    share of a perfect model's samples that belong to a mode
    judge   who says so: part of the number's card
    """

    count: int
    most: int
    index: Callable[[Tensor], Tensor]
    good: float
    judge: str

    def estimates(self, index: Tensor) -> dict[str, Estimate]:
        """index (n,) of samples -> modes; good_samples, where not all must be good; mode_kl (nats),
        where any is.
        """
        good = index[index >= 0]
        found = {"modes": labels.modes_hit(index, self.count, self.good)}
        if self.good < 1:
            found["good_samples"] = share(len(good), len(index), self.good)
        if len(good):
            # n: samples looked at
            found["mode_kl"] = replace(
                labels.divergence_from_uniform(good, self.count), n=len(index)
            )
        return found


def modes_of(dataset: Dataset) -> Modes | None:
    """The modes of data that have separate ones; None otherwise."""
    if dataset.modes is not None:
        centres, std = dataset.modes
        index = partial(
            labels.mode_of, centres=torch.as_tensor(centres).double(), radius=GOOD * std
        )
        good = labels.share_within(GOOD, dataset.spec.dims)
        return Modes(
            len(centres),
            POINTS,
            lambda x: index(x.flatten(1).double().cpu()),
            good,
            "nearest centre/3 std",
        )
    if dataset.channels_of:
        channels, height, width = dataset.spec.shape
        one = Dataset(
            dataset.channels_of, replace(dataset.spec, shape=(1, height, width), classes=0), {}, ""
        )
        classifier = shipped_for(one)
        if classifier is not None and classifier.classes:
            count = classifier.classes**channels
            return Modes(
                count,
                STACKED,
                partial(class_of_channels, classifier=classifier),
                1.0,
                f"{classifier.name} by channel",
            )
    return None


def class_of_channels(x: Tensor, classifier: Evaluator) -> Tensor:
    """x (n, C, H, W): each channel's class by a classifier of K classes, the first being the
    leading digit: (n,) in 0 .. K^C - 1.
    """
    n, channels = x.shape[:2]
    each = (
        classifier.logits(classifier(x.reshape(n * channels, 1, *x.shape[2:])))
        .argmax(1)
        .view(n, channels)
    )
    return (each * classifier.classes ** torch.arange(channels - 1, -1, -1)).sum(1)


def mode_estimates(dataset: Dataset, x: Tensor) -> dict[str, Estimate]:
    """The protocol's numbers of samples x (n, *shape) in model form, as many of them as it looks
    at. Asserts that there are modes.
    """
    modes = modes_of(dataset)
    assert modes is not None, dataset.name
    return modes.estimates(modes.index(x[: modes.most]))
