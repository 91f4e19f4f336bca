"""Which examples keep their labels when a classifier is trained on a share of them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..core.rng import Rng
from ..core.spec import DataSpec

ODD_FACTOR = 0x2545F4914F6CDD1D


def has_label(x: Tensor, spec: DataSpec, share: float) -> Tensor:
    """Which examples of x (B, *shape) keep their labels: (B,) bool, about ``share`` of all.

    A hash of the example's own content decides, in integers: multilinear (Carter & Wegman 1979),
    then mixed. It is the same in every epoch and on every machine. An example that is drawn anew
    each time (--binarise dynamic) is another example each time.
    """
    if spec.kind == "image":
        content = ((x.float() + 1) * ((spec.levels - 1) / 2)).round().long().flatten(1)
    else:
        content = x.float().contiguous().view(torch.int32).long()
    keys = Rng(0, ("labelled",), device=x.device).integers("keys", 2**63 - 1, (spec.dims + 1,))
    mixed = keys[0] + (content * keys[1:]).sum(1)  # all modulo 2^64
    for _ in range(2):
        mixed = (mixed ^ ((mixed >> 32) & (2**32 - 1))) * ODD_FACTOR
    return ((mixed >> 32) & (2**31 - 1)) < share * 2**31


def classifier_terms(logits: Tensor, y: Any, is_labelled: Tensor) -> dict[str, Tensor]:
    """Mean of -log p(y) over the labelled examples, nats, 0 if there are none; accuracy on all."""
    nats = cross_entropy(logits.float(), y, reduction="none")
    label_nll = (nats * is_labelled).sum() / is_labelled.sum().clamp(min=1)
    accuracy = (logits.argmax(1) == y).float().mean()
    return {"label_nll": label_nll, "label_accuracy": accuracy}
