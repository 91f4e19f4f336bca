"""Mean and variance of a data set, batch by batch."""

from collections.abc import Callable, Iterable

from torch import Tensor


def channel_moments(batches: Callable[[], Iterable[Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,), float64, of each channel of images, or of each column of rows (B, C).

    batches() iterates over tensors (B, C, ...).
    """
    count = 0
    total = 0.0
    total_squares = 0.0
    for x in batches():
        x = x.double().flatten(2) if x.ndim > 2 else x.double()[:, :, None]  # B, C, places
        count += len(x) * x.shape[2]
        total += x.sum((0, 2))
        total_squares += x.square().sum((0, 2))
    mean = total / count
    return mean, total_squares / count - mean**2
