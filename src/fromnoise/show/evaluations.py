"""Distance of samples to the training examples by evaluations of the network, and its curve."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.ticker import NullFormatter, NullLocator
from torch import Tensor

from ..core.errors import UsageError
from ..evaluate.report import build_reference
from ..inference import sample
from ..measures import frechet
from ..measures.distances import scaled_kernel_distance
from ..measures.estimate import Estimate
from ..measures.features import extract
from .context import FigureContext
from .style import INK, MODEL, REAL, Sheet, halo, plain

MAX_KERNEL_EXAMPLES = 2000


@dataclass
class DistanceCurve:
    """Distances of samples to the training examples, by evaluations of the network.

    name     of the distance
    real     the distance of held-out data; None if there are too few
    seconds  for 64 samples
    samples  (n, *shape) of each number of evaluations
    """

    name: str
    real: Estimate | None
    evaluations: list[int]
    distances: list[Estimate] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    samples: list[Tensor] = field(default_factory=list)

    @property
    def values(self) -> np.ndarray:
        return np.array([distance.value for distance in self.distances])


def why_no_steps(context: FigureContext) -> str:
    if context.spec.kind == "tokens":
        return "it is for images, points and tables"
    if "steps" in context.loaded.family.Options.model_fields:
        return ""
    return "this model samples without --steps"


def draw_samples_with(context: FigureContext, n: int, evaluations: int) -> tuple[Tensor, float]:
    """n samples by DPM-Solver with so many evaluations, and the seconds for a block of 64."""
    options = {"steps": evaluations, "sampler": "dpm"}
    begin = time.perf_counter()
    x = sample.sample(context.loaded, n, context.seed, context.label, options).cpu()
    return x, (time.perf_counter() - begin) / -(-n // sample.BLOCK)


def choose_distance(
    context: FigureContext,
) -> tuple[str, Callable[[Tensor], Estimate], Estimate | None]:
    """Name of a distance, the function of samples that computes it, its value for held-out data.

    A Fréchet distance, or a kernel distance where there are too few images for it. The value of held-out
    data is None if there are too few.
    """
    reference = build_reference(context.dataset)
    main = reference.maps[0]
    train = reference.features(main, "train")
    test = reference.features(main, "test")
    most = min(len(train), MAX_KERNEL_EXAMPLES)
    is_frechet = context.spec.kind == "image" and len(train) >= frechet.FEW * train.shape[1]

    def distance(features: Tensor) -> Estimate:
        if is_frechet:
            return frechet.frechet(features, train)
        return scaled_kernel_distance(features, train, most, features is not test)

    try:
        real = distance(test)
    except UsageError:  # too few
        real = None
    name = f"Fréchet distance ({main.name.partition('/')[0]})" if is_frechet else "kernel distance"
    return name, lambda x: distance(extract(main, [x])), real


def measure_curve(context: FigureContext, n: int, evaluations: Sequence[int]) -> DistanceCurve:
    """n samples at each number of evaluations, and their distances."""
    name, distance, real = choose_distance(context)
    curve = DistanceCurve(name, real, list(evaluations))
    for count in evaluations:
        x, seconds = draw_samples_with(context, n, count)
        curve.distances.append(distance(x))
        curve.seconds.append(seconds)
        curve.samples.append(x)
    return curve


def draw_distance_curve(sheet: Sheet, curve: DistanceCurve, width: float, height: float) -> None:
    """Distance over evaluations, both axes logarithmic; values up to 0 lie on the lower edge."""
    axes = sheet.add_axes(52, 22, width - 52, height - 84)
    real = curve.real
    steps = curve.evaluations
    values = curve.values
    intervals = np.array([d.interval or (d.value, d.value) for d in curve.distances])
    candidates = [*values, *intervals[:, 1], *([real.value] if real else [])]
    floor = 0.6 * min((value for value in candidates if value > 0), default=1.0)
    heights = np.maximum(values, floor)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = np.maximum(intervals, floor).T
    axes.vlines(steps, low, high, color=MODEL, linewidth=3, alpha=0.3)
    axes.plot(steps, heights, color=MODEL, marker="o", markersize=4.5, linewidth=1.4)
    if real and real.value > floor:
        axes.axhline(real.value, color=REAL, linewidth=1, linestyle=(0, (4, 3)))
    style = {"textcoords": "offset points", "fontsize": 7.5, "color": INK, "ha": "center"}
    for place, value in zip(zip(steps, heights), values):
        label = format_distance(value)
        axes.annotate(label, place, xytext=(0, 7), path_effects=halo(), **style)
    labels = [f"{n}\n{format_seconds(s)}" for n, s in zip(steps, curve.seconds)]
    axes.set_xticks(steps, labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=floor)
    axes.margins(x=0.08)
    axes.grid(True, axis="y")
    axes.set_xlabel("evaluations of the network for a sample; time for 64 samples")
    sheet.add_head(0, 0, plain(curve.name, 60))


def format_distance(value: float) -> str:
    if value <= 0:
        return "≤ 0"
    return f"{value:,.0f}" if 10 <= value < 1e7 else f"{value:.2g}"


def format_seconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
