"""Principal component analysis of data that come in batches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.rng import Rng

EXACT = 2048  # dimensions up to which the covariance is formed and diagonalised
ENTRIES = 2**28  # numbers of the data that are held at once above that


@dataclass(frozen=True)
class Components:
    """mean (D,), eigenvalues (K,) of the covariance, largest first, basis (D, K) orthonormal; float64.

    rest: mean of the D - K smaller eigenvalues, 0 when there are none.
    rows: the number of rows that eigenvalues and basis are computed from, if not all fit into memory; the
    mean is of all.
    """

    mean: Tensor
    eigenvalues: Tensor
    basis: Tensor
    rest: float
    rows: int


def principal_components(
    batches: Callable[[], Iterable[Tensor]], dims: int, size: int, seed: int = 0
) -> Components:
    """The ``size`` leading components of the rows of batches(), each batch (B, ...) of ``dims`` numbers.

    Up to 2,048 dimensions exactly, from the covariance in float64. Above that by randomised subspace
    iteration (Halko et al. 2011) on all rows, or on as many random rows (``seed``) as fit a gigabyte.
    Signs are fixed, so that equal data give equal codes.
    """
    size = min(size, dims)
    n = 0
    total = torch.zeros(dims, dtype=torch.float64)
    for x in batches():
        n += len(x)
        total = total + x.flatten(1).cpu().double().sum(0)
    mean = total / n
    rows = n
    if dims <= EXACT:
        covariance = torch.zeros(dims, dims, dtype=torch.float64)
        for x in batches():
            centred = x.flatten(1).cpu().double() - mean
            covariance.addmm_(centred.T, centred, alpha=1 / n)
        values, vectors = torch.linalg.eigh(covariance)
        values = values.flip(0)[:size]
        vectors = vectors.flip(1)[:, :size]
        variance = float(covariance.trace())
    else:
        data = _rows_of(batches, mean, n, max(2 * size, ENTRIES // dims), seed)
        values, vectors, variance = _randomised(data, size, seed)
        rows = len(data)
    values = values.clamp(min=0)
    rest = max(0.0, variance - float(values.sum())) / (dims - size) if size < dims else 0.0
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return Components(mean, values, vectors * largest.sign(), rest, rows)


def _rows_of(batches, mean: Tensor, n: int, most: int, seed: int) -> Tensor:
    """All n rows minus their mean, or ``most`` random ones since data may be sorted: (rows, D)
    float32.
    """
    chosen = torch.ones(n, dtype=torch.bool)
    if n > most:
        chosen = torch.zeros(n, dtype=torch.bool)
        chosen[torch.from_numpy(Rng(seed).at("pca").numpy("rows").permutation(n)[:most])] = True
    rows = []
    done = 0
    for x in batches():
        rows.append(x.flatten(1).float().cpu()[chosen[done : done + len(x)]] - mean.float())
        done += len(x)
    return torch.cat(rows)


def _randomised(data: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor, float]:
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    dims = data.shape[1]
    with threadpool_limits(1):
        _, singular, directions = randomized_svd(
            data.numpy(), min(size, len(data)), n_iter=6, random_state=seed % 2**32
        )
    values = torch.zeros(size, dtype=torch.float64)
    vectors = torch.eye(dims, size, dtype=torch.float64)
    rank = len(singular)
    values[:rank] = torch.from_numpy(singular.copy()).double().square() / len(data)
    vectors[:, :rank] = torch.from_numpy(directions.copy()).double().T
    if rank < size:
        vectors = torch.linalg.qr(vectors)[0]
    return values, vectors, float(data.square().sum(dtype=torch.float64) / len(data))
