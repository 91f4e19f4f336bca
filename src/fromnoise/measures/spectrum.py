"""Do samples have the frequencies of real pictures? Power by radius of the frequency.

    P(f) = |sum_p x_p exp(-2 pi i f p)|^2 / (H W),    radius |f| = sqrt(fy^2 + fx^2) cycles a pixel

A mesh of pixels shows as power near radius .71 (the checkerboard), blur as a lack of power at large
radii, blobs without texture as a lack at middle ones. Fréchet distances of features hardly react to
any of these (Durall et al. 2020, "Watch your Up-Convolution", arXiv:2003.01826).
"""

import math

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.rng import Rng
from .estimate import Estimate, NoSpreadError

BANDS = 8  # of equal width in the radius
LARGEST_RADIUS = math.sqrt(0.5)
BLOCK = 512  # pictures that are transformed at once
DRAWS = 2000  # of the errors of all bands, for the null and the interval
FEWEST = 8


def band_index(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """The band of each frequency of ``torch.fft.rfft2``, (height, width // 2 + 1); -1 for the mean."""
    fy = torch.fft.fftfreq(height, device=device)[:, None]
    fx = torch.fft.rfftfreq(width, device=device)[None]
    radius = torch.sqrt(fy**2 + fx**2)
    bands = (radius / LARGEST_RADIUS * BANDS).ceil().long().clamp(1, BANDS) - 1
    bands[0, 0] = -1
    return bands


def band_edges(band: int) -> tuple[float, float]:
    """Lowest and highest radius of a band, in cycles a pixel."""
    width = LARGEST_RADIUS / BANDS
    return band * width, (band + 1) * width


def band_power(x: Tensor) -> Tensor:
    """x (n, C, H, W), pixels in any unit -> mean power of each band, (n, BANDS), in its square.

    A band without a frequency (very small pictures) is NaN. Raises UsageError below 4 x 4 pixels.
    """
    if x.ndim != 4 or min(x.shape[2:]) < 4:
        raise UsageError(
            f"a spectrum is of images of 4 x 4 pixels and more, not of {tuple(x.shape[1:])}"
        )
    height, width = x.shape[2:]
    bands = band_index(height, width, x.device)
    # rfft2 leaves out the frequencies -fx: those that have a partner count twice.
    weights = torch.full_like(bands, 2, dtype=torch.float64)
    weights[:, 0] = 1
    if width % 2 == 0:
        weights[:, -1] = 1
    inside = bands >= 0
    chosen = bands[inside]
    weights = weights[inside]
    count = torch.zeros(BANDS, dtype=torch.float64, device=x.device).index_add(0, chosen, weights)
    powers = []
    for block in x.split(BLOCK):
        transformed = torch.fft.rfft2(block.double())
        power = (transformed.abs() ** 2).mean(1)[:, inside] / (height * width)
        sums = power.new_zeros(len(block), BANDS).index_add(1, chosen, power * weights)
        powers.append(sums / count)
    return torch.cat(powers)


def log_ratio(mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """log2 of the ratio of mean powers by band, (K,), and its covariance (K, K), delta method.

    mine (n, K), theirs (m, K): powers of single pictures.
    """
    ratio = torch.log2(mine.mean(0) / theirs.mean(0))
    covariance = torch.zeros(mine.shape[1], mine.shape[1], dtype=torch.float64)
    for power in (mine, theirs):
        relative = power / power.mean(0) / math.log(2)
        covariance += torch.cov(relative.T).reshape(covariance.shape).cpu() / len(power)
    return ratio.cpu(), covariance


def draw_errors(covariance: Tensor, rng: Rng) -> Tensor:
    """|e| of draws e ~ N(0, covariance), (DRAWS, K)."""
    jitter = 1e-12 * torch.eye(len(covariance), dtype=torch.float64)
    root = torch.linalg.cholesky(covariance + jitter)
    draws = rng.numpy("bands").standard_normal((DRAWS, len(covariance)))
    return (torch.from_numpy(draws) @ root.T).abs()


def shared_bands(x: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Powers of samples (n, K) and of real pictures (m, K) in the K bands that have frequencies, and
    which of all bands these are. Raises UsageError, NoSpreadError."""
    fewest = min(len(x), len(real))
    if fewest < FEWEST:
        raise UsageError(f"a spectrum needs {FEWEST} pictures, not {fewest}")
    mine = band_power(x)
    theirs = band_power(real)
    known = ~theirs.mean(0).isnan()
    mine = mine[:, known]
    theirs = theirs[:, known]
    if not bool((theirs.mean(0) > 0).all()):
        raise NoSpreadError(
            "the real pictures lack a frequency altogether: there is no ratio to it"
        )
    if not bool((mine.mean(0) > 0).all()):
        raise NoSpreadError("the samples lack a frequency altogether, as pictures of one colour do")
    return mine, theirs, known


def spectrum_error(x: Tensor, real: Tensor, rng: Rng) -> Estimate:
    """The largest |log2(power of samples / power of real pictures)| over the bands of frequencies.

    x (n, C, H, W) and real (m, C, H, W): pixels in the same unit, the mean of each picture left out.
    1 means twice or half the power at the worst frequency, 0 is perfect. ``null`` is what equal laws
    give with these many pictures. The interval holds whichever band is the worst: it is from
    intervals of all bands together. Raises UsageError (too small or too few pictures),
    NoSpreadError (pictures without any variation).
    """
    mine, theirs, known = shared_bands(x, real)
    ratio, covariance = log_ratio(mine, theirs)
    spread = covariance.diag().sqrt().clamp(min=1e-12)
    noise = draw_errors(covariance, rng)
    # With this factor the intervals of all bands hold together in 95 % of the cases.
    factor = torch.quantile((noise / spread).amax(1), 0.95)
    low = (ratio.abs() - factor * spread).amax()
    high = (ratio.abs() + factor * spread).amax()
    worst = int(ratio.abs().argmax())
    start, end = band_edges(int(known.nonzero()[worst]))
    times = 2 ** float(ratio[worst])
    note = f"most at {start:.2f} to {end:.2f} cycles a pixel: {times:.3g} times the real power"
    return Estimate(
        float(ratio[worst].abs()),
        float(spread[worst]),
        (max(0.0, float(low)), float(high)),
        float(noise.amax(1).mean()),
        n=len(x),
        m=len(real),
        note=note,
    )
