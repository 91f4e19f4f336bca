"""Sampling from a run. Sample i depends on (seed, i) only."""

from collections.abc import Iterator

import torch

from ..core.config import build
from ..core.errors import UsageError
from ..core.limits import SHARE, check_memory, memory
from ..core.rng import Rng
from ..core.spec import check_labels
from ..runs.load import LoadedRun
from .batches import fixed_blocks

BLOCK = 64  # samples that are drawn together


@torch.no_grad()
def sample_blocks(
    loaded: LoadedRun,
    n: int,
    seed: int = 0,
    label: int | None = None,
    options: dict | None = None,
    labels: torch.Tensor | None = None,
    prompt: str | None = None,
) -> Iterator[torch.Tensor]:
    """Samples 0 .. n-1 in model form, at most BLOCK at a time, (b, *shape).

    label   one class for all
    labels  one class (n,) or caption (n, L) for each
    prompt  one caption for all
    Without any of them a conditional model goes through the classes that it learned, or the
    captions that its run recorded, in turn. Rows of a table are as they are written to a file.
    Raises UsageError, also for a label of a class that has no training example.
    """
    if n < 1:
        raise UsageError(f"-n takes a number from 1 on, not {n}")
    model = loaded.model
    dataset = loaded.dataset
    if prompt is not None:
        check_takes_captions(loaded)
        labels = dataset.caption_codec.encode([prompt]).expand(n, -1)
    if label is not None:
        check_label(loaded, label)
    options = build(loaded.family.Options, options or {})
    rng = Rng(seed, ("sample",), device=loaded.device)
    for numbers, count in fixed_blocks(n, BLOCK):
        y = None
        if model.conditional:
            y = conditions(loaded, numbers, n, label, labels)
        x = model.sample(BLOCK, y, options, rng.per_row(numbers))
        yield dataset.as_delivered(x[:count])


def conditions(
    loaded: LoadedRun, numbers: range, n: int, label: int | None, labels: torch.Tensor | None
) -> torch.Tensor:
    """The labels or captions of the samples with these numbers, for a conditional model."""
    if labels is not None:
        y = labels[torch.tensor(numbers) % n]
    elif label is not None:
        y = torch.full((len(numbers),), label)
    else:
        y = loaded.dataset.default_conditions(numbers)
    return y.to(loaded.device)


def sample(
    loaded: LoadedRun,
    n: int,
    seed: int = 0,
    label: int | None = None,
    options: dict | None = None,
    prompt: str | None = None,
) -> torch.Tensor:
    """n samples in model form (n, *shape). Raises UsageError, also for more than fit into memory."""
    refuse_too_many(loaded, n)
    return torch.cat(list(sample_blocks(loaded, n, seed, label, options, prompt=prompt)))


def refuse_too_many(loaded: LoadedRun, n: int) -> None:
    """Raises UsageError if n samples do not fit into memory, in model form and in that of a file."""
    spec = loaded.dataset.spec
    is_image = spec.kind == "image"
    # bytes of one sample; the values of a table are Python objects before they are written
    each = spec.dims * (12 if is_image else 40)
    advice = f"ask for {int(SHARE * memory() / each):,} or fewer"
    if is_image:
        advice += ", or for a folder (-o NAME), which is written as they come"
    check_memory(n * each, f"-n {n}: so many samples", advice)


def labels_of(loaded: LoadedRun, n: int, label: int | None = None) -> torch.Tensor | None:
    """The classes (n,) of the samples 0 .. n-1 of ``sample``; None without classes."""
    if not loaded.model.conditional or not loaded.dataset.spec.classes:
        return None
    return loaded.dataset.default_conditions(range(n)) if label is None else torch.full((n,), label)


def check_takes_captions(loaded: LoadedRun) -> None:
    """Raises UsageError unless the model was trained with captions."""
    if not (loaded.model.conditional and loaded.dataset.spec.caption):
        raise UsageError(
            "this model was not trained with captions (--conditional, data that has them): "
            "leave --prompt out"
        )


def check_takes_labels(loaded: LoadedRun) -> None:
    """Raises UsageError unless the model was trained with labels."""
    if not loaded.model.conditional:
        raise UsageError(
            f"{loaded.run.path} is not conditional: leave --label out, or train with --conditional "
            "for samples of one class"
        )


def check_label(loaded: LoadedRun, label: int) -> None:
    """Raises UsageError unless the model can draw the class with this number."""
    spec = loaded.dataset.spec
    if spec.caption:
        advice = "leave --label out"
        if loaded.model.conditional:
            advice = "give --prompt instead of --label"
        raise UsageError(f"this data has captions and no classes: {advice}")
    check_takes_labels(loaded)
    check_labels([label], 1, spec.classes)
    loaded.dataset.require_learned_classes([label])
