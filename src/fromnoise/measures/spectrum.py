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
from .frechet import describe_doubt, effective_rows

BANDS = 8  # of equal width in the radius
LARGEST_RADIUS = math.sqrt(0.5)
BLOCK = 512  # pictures that are transformed at once
DRAWS = 1000  # permutations for the null, resamples for the interval
FEWEST = 32  # pictures of either kind
FLOOR = 1e-16  # power over the mean square of the pixels: below, it is rounding


def band_index(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """The band of each frequency of ``torch.fft.rfft2``, (height, width // 2 + 1); -1 for the mean."""
    fy = torch.fft.fftfreq(height, dtype=torch.float64, device=device)[:, None]
    fx = torch.fft.rfftfreq(width, dtype=torch.float64, device=device)[None]
    radius = torch.sqrt(fy**2 + fx**2)
    # diagonal frequencies lie on edges of bands: rounding must not decide
    bands = (radius / LARGEST_RADIUS * BANDS - 1e-9).ceil().long().clamp(1, BANDS) - 1
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
    """log2 of the ratio of mean powers by band and its standard error, (K,) each, delta method.

    mine (n, K), theirs (m, K): powers of single pictures.
    """
    variance = torch.zeros(mine.shape[1], dtype=torch.float64)
    for power in (mine, theirs):
        relative = power / power.mean(0) / math.log(2)
        variance += relative.var(0) / len(power)
    ratio = torch.log2(mine.mean(0) / theirs.mean(0))
    return ratio, variance.sqrt().clamp(min=1e-12)


def resampled_ratios(mine: Tensor, theirs: Tensor, rng: Rng) -> Tensor:
    """log2 ratios (DRAWS, K) of pictures drawn again from both sets (bootstrap)."""
    generator = rng.numpy("bootstrap")
    means = []
    for power in (mine, theirs):
        counts = generator.multinomial(len(power), [1 / len(power)] * len(power), DRAWS)
        means.append(torch.from_numpy(counts).double() @ power / len(power))
    return torch.log2(means[0] / means[1])


def exchanged_ratios(mine: Tensor, theirs: Tensor, rng: Rng) -> Tensor:
    """log2 ratios (DRAWS, K) of real pictures in both places: n + m of theirs, drawn at random."""
    generator = rng.numpy("null")
    ratios = []
    for _ in range(DRAWS):
        first = generator.integers(0, len(theirs), len(mine))
        second = generator.integers(0, len(theirs), len(theirs))
        ratios.append(torch.log2(theirs[first].mean(0) / theirs[second].mean(0)))
    return torch.stack(ratios)


def shared_bands(x: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Powers of samples (n, K) and of real pictures (m, K) in the K bands that have frequencies, and
    which of all bands these are. Raises UsageError, NoSpreadError."""
    fewest = min(len(x), len(real))
    if fewest < FEWEST:
        raise UsageError(f"a spectrum needs {FEWEST} pictures, not {fewest}")
    if not bool(x.isfinite().all()):
        raise UsageError("the samples are not finite: there is no spectrum of them")
    mine = band_power(x).cpu()
    theirs = band_power(real).cpu()
    known = ~theirs.mean(0).isnan()
    mine = mine[:, known]
    theirs = theirs[:, known]
    for power, pictures, name in ((theirs, real, "the real pictures"), (mine, x, "the samples")):
        floor = FLOOR * float(pictures.double().square().mean())
        if not bool((power.mean(0) > floor).all()):
            raise NoSpreadError(f"{name} lack a frequency altogether, as pictures of one colour do")
    return mine, theirs, known


def spectrum_error(x: Tensor, real: Tensor, rng: Rng) -> Estimate:
    """The largest |log2(power of samples / power of real pictures)| over the bands of frequencies.

    x (n, C, H, W) and real (m, C, H, W): pixels in the same unit, the mean of each picture left out.
    1 means twice or half the power at the worst frequency, 0 is perfect. ``null`` is what equal laws
    give with these many pictures (bootstrap of the real ones). The interval holds whichever band is
    the worst: it is from bootstrap intervals of all bands together; where few pictures have most of
    the power it is too short, and the note says so. Raises UsageError (too small or too few pictures),
    NoSpreadError (pictures without any variation).
    """
    mine, theirs, known = shared_bands(x, real)
    ratio, spread = log_ratio(mine, theirs)
    errors = (resampled_ratios(mine, theirs, rng) - ratio).abs()
    # With this factor the intervals of all bands hold together in 95 % of the cases.
    factor = torch.quantile((errors / spread).amax(1), 0.95)
    low = (ratio.abs() - factor * spread).amax()
    high = (ratio.abs() + factor * spread).amax()
    null = exchanged_ratios(mine, theirs, rng).abs().amax(1).mean()
    worst = int(ratio.abs().argmax())
    start, end = band_edges(int(known.nonzero()[worst]))
    times = 2 ** float(ratio[worst])
    few = min(effective_rows(mine[:, worst]), effective_rows(theirs[:, worst]))
    note = f"most at {start:.2f} to {end:.2f} cycles a pixel: {times:.3g} times the real power"
    return Estimate(
        float(ratio[worst].abs()),
        float(spread[worst]),
        (max(0.0, float(low)), float(high)),
        float(null),
        n=len(x),
        m=len(real),
        note="; ".join(filter(None, (note, describe_doubt(few)))),
    )
