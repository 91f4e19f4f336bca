"""Principal components of data that come in batches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = 2048  # dimensions up to which the covariance is formed and diagonalised
ENTRIES = 2**28  # numbers of the data that are held at once above that


@dataclass(frozen=True)
class Components:
    """mean (D,), eigenvalues (K,) of the covariance, largest first, basis (D, K) orthonormal; float64.

    rest: mean of the D - K smaller eigenvalues, 0 when there are none.
    """

    mean: Tensor
    eigenvalues: Tensor
    basis: Tensor
    rest: float


def principal_components(batches: Callable[[], Iterable[Tensor]], dims: int, size: int, seed: int = 0) -> Components:
    """The ``size`` leading components of the rows that batches() iterates over, each batch (B, ...) of ``dims`` numbers.

    Up to 2,048 dimensions exactly, from the covariance in float64. Above that by randomised subspace iteration
    (Halko et al. 2011) on the first rows that fit a gigabyte. Signs are fixed, so that equal data give equal codes.
    """
    size = min(size, dims)
    n, total = 0, torch.zeros(dims, dtype=torch.float64)
    for x in batches():
        n, total = n + len(x), total + x.flatten(1).cpu().double().sum(0)
    mean = total / n
    if dims <= EXACT:
        covariance = torch.zeros(dims, dims, dtype=torch.float64)
        for x in batches():
            centred = x.flatten(1).cpu().double() - mean
            covariance.addmm_(centred.T, centred, alpha=1 / n)
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors, variance = values.flip(0)[:size], vectors.flip(1)[:, :size], float(covariance.trace())
    else:
        values, vectors, variance = _randomised(batches, mean, size, seed)
    values = values.clamp(min=0)
    rest = max(0.0, variance - float(values.sum())) / (dims - size) if size < dims else 0.0
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return Components(mean, values, vectors * largest.sign(), rest)


def _randomised(batches, mean: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor, float]:
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    rows, most = [], max(2 * size, ENTRIES // len(mean))
    for x in batches():
        rows.append(x.flatten(1).float().cpu() - mean.float())
        if sum(map(len, rows)) >= most:
            break
    data = torch.cat(rows)[:most]
    with threadpool_limits(1):
        _, singular, directions = randomized_svd(data.numpy(), min(size, len(data)), n_iter=6, random_state=seed % 2**32)
    values, vectors = torch.zeros(size, dtype=torch.float64), torch.eye(len(mean), size, dtype=torch.float64)
    found = len(singular)
    values[:found] = torch.from_numpy(singular.copy()).double().square() / len(data)
    vectors[:, :found] = torch.from_numpy(directions.copy()).double().T
    return values, torch.linalg.qr(vectors)[0] if found < size else vectors, float(data.square().sum(dtype=torch.float64) / len(data))
