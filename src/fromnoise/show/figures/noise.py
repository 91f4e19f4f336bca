"""Between noise and data: an image drowned in noise, noise that becomes a sample, points on their way, what steps are worth."""

import time

import numpy as np
import torch
from matplotlib.ticker import NullFormatter, NullLocator
from torch import Tensor

from ...core.capabilities import Moment
from ...core.errors import UsageError
from ...core.rng import Rng
from ...evaluate.report import reference_for
from ...inference import sample
from ...measures import frechet
from ...measures.distances import scaled_kernel_distance
from ...measures.estimate import Estimate
from ...measures.features import extract
from ..context import FigureContext
from ..style import ACCENT, INK, MODEL, REAL, SOFT, WIDTH, Drawing, Sheet, halo, plain
from .images import GAP, image_cell, row_height, rows_of_images
from .progress import frame_of

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LOOKS = 256  # images that the share of what one look explains is computed from
LEAST_VARIANCE = 1e-9  # of pixels in [-1, 1]: below it images do not differ
LEFT = 76  # pixels left of image rows


def of_level(level: float) -> str:
    return f"{level:.1%}" if 0 < level < 0.01 else f"{level:.0%}"


# -- an image drowns -----------------------------------------------------------------------------------------


@torch.no_grad()
def draw_forward(subject: FigureContext, shown: int = 3) -> Drawing:
    """Images at rising levels of noise, and what the model takes each of them for by one look."""
    model, spec, options = subject.model, subject.spec, subject.loaded.family.Options()
    batch = subject.first(LOOKS)
    y = batch.y if subject.conditional else None
    z = subject.rng("forward").per_row(range(len(batch))).normal("z", batch.x.shape)
    noisy, seen, explained = [], [], []
    mean = subject.dataset.batch("train", slice(0, LOOKS), device=batch.x.device).x.mean(0)
    variance = float((batch.x - mean).square().mean())
    for level in LEVELS:
        x_s = model.noised(batch.x, level, z)
        x_hat = model.clean(x_s, level, y, options)
        if variance > LEAST_VARIANCE:
            explained.append(1 - float((x_hat - batch.x).square().mean()) / variance)
        (
            noisy.append(subject.pixels(x_s[:shown])),
            seen.append(subject.pixels(x_hat[:shown].clamp(-1, 1))),
        )
    shown = min(shown, len(batch))
    cell = image_cell(spec, len(LEVELS), label=LEFT, most=64)
    line = row_height(spec, cell)
    counted = f"{len(batch)} {subject.split} image{'s' * (len(batch) != 1)}"
    share = (
        f"The last line is the share of the variance of {counted} about the training images' mean which one look explains."
        if explained
        else f"There is no share of explained variance: the {counted} and the training images do not differ."
    )
    note = (
        "Each column mixes one image with one noise, (1 - s) x + s ε with s on top: that is all that training data are. Below it what the model "
        "takes the mixture for in one look: the mean of all images that it could be, so that it blurs as the noise hides more. "
        + share
    )
    sheet = Sheet(
        f"An image drowns in noise, and what {plain(subject.loaded.run.name)} still sees",
        note,
        subject.caption("forward"),
        18 + shown * (2 * line + 8) + 16,
    )

    def centre(j):
        return LEFT + (j + 0.5) * (cell + GAP) - GAP / 2

    for j, level in enumerate(LEVELS):
        sheet.text(centre(j), 0, f"{level:.0%}", size=7.5, color=SOFT, ha="center")
    sheet.text(LEFT - 10, 0, "noise", size=7.5, color=SOFT, ha="right")
    top = 16.0
    for i in range(shown):
        rows = [
            ("noised", "", np.stack([of_level[i] for of_level in noisy])),
            ("one look", "", np.stack([of_level[i] for of_level in seen])),
        ]
        top = rows_of_images(sheet, rows, cell, top, label=LEFT) + 8
    for j, share in enumerate(explained):
        sheet.text(centre(j), top, f"{100 * max(share, 0):.0f}%", size=7.5, color=SOFT, ha="center")
    alt = f"{shown} images at {len(LEVELS)} levels of noise, and what the model sees in each."
    if explained:
        sheet.text(LEFT - 10, top, "explained", size=7.5, color=SOFT, ha="right")
        alt = (
            alt[:-1]
            + f"; one evaluation explains {100 * explained[5]:.0f} % of the variance at half noise."
        )
    return sheet.done({"levels": LEVELS, "explained": explained, "n": len(batch)}, alt)


# -- noise becomes a sample ----------------------------------------------------------------------------------


@torch.no_grad()
def traced(subject: FigureContext) -> list[Moment]:
    """The first samples of the seed, on their way."""
    rng = Rng(subject.seed, ("sample",), device=subject.loaded.device).per_row(range(sample.BLOCK))
    return subject.model.trace(
        sample.BLOCK, subject.labels(sample.BLOCK), subject.loaded.family.Options(), rng
    )


@torch.no_grad()
def draw_denoising(subject: FigureContext, shown: int = 4, most: int = 12) -> Drawing:
    """Samples on their way: x_t above, what the model takes it for below."""
    spec, y = subject.spec, subject.labels(shown)
    moments = traced(subject)
    steps = np.unique(np.linspace(0, len(moments) - 1, min(most, len(moments))).round().astype(int))
    chosen = [moments[i] for i in steps]
    cell = image_cell(spec, len(chosen), label=LEFT, most=64)
    line = row_height(spec, cell)
    note = (
        f"The first {shown} samples of this seed on their way from noise, in {len(moments) - 1} steps. Above the state x, scaled so that it keeps its contrast; below what the "
        "model takes it for at that moment, where the next step goes. What is coarse is decided first, details last."
    )
    sheet = Sheet(
        f"From noise to samples of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("denoising"),
        32 + shown * (2 * line + 8) - 8,
    )
    for j, (step, moment) in enumerate(zip(steps, chosen)):
        at = LEFT + (j + 0.5) * (cell + GAP) - GAP / 2
        sheet.text(at, 0, str(step), size=7.5, color=SOFT, ha="center")
        sheet.text(at, 13, of_level(moment.level), size=7.5, color=SOFT, ha="center")
    for i, words in enumerate(("steps", "noise")):
        sheet.text(LEFT - 10, 13 * i, words, size=7.5, color=SOFT, ha="right")
    xs, x_hats = (
        [subject.pixels(part(m)[:shown].clamp(-1, 1)) for m in chosen]
        for part in (lambda m: m.x, lambda m: m.x_hat)
    )
    top = 30.0
    for i in range(shown):
        name = "x" if y is None or y.ndim > 1 else subject.class_name(int(y[i]))
        rows = [
            (name, "", np.stack([of_step[i] for of_step in xs])),
            ("seen in it", "", np.stack([of_step[i] for of_step in x_hats])),
        ]
        top = rows_of_images(sheet, rows, cell, top, label=LEFT) + 8
    numbers = {"steps": steps, "levels": [m.level for m in chosen], "samples": shown}
    return sheet.done(
        numbers,
        f"{shown} samples in {len(chosen)} moments from noise to image; below each moment what the model takes it for.",
    )


# -- points on their way -------------------------------------------------------------------------------------


PATHS, POINTS, ARROWS, AT = (
    60,
    512,
    18,
    0.4,
)  # ways that are drawn, points of a cloud, arrows each way, their level of noise
CLOUDS = (1.0, 0.7, 0.45, 0.25, 0.1, 0.0)


def is_plane(subject: FigureContext) -> str:
    plane = (
        subject.spec.kind == "vector" and subject.spec.dims == 2 and subject.dataset.columns is None
    )
    return "" if plane else "it is for points in the plane"


@torch.no_grad()
def draw_trajectories(subject: FigureContext) -> Drawing:
    """Ways of points from noise to data, the field that moves them, and their cloud at six moments."""
    loaded, options = subject.loaded, subject.loaded.family.Options()
    many = (
        options.model_copy(update={"steps": 50})
        if "steps" in type(options).model_fields
        else options
    )
    y = subject.labels(POINTS)
    moments = subject.model.trace(
        POINTS, y, many, subject.rng("trajectories").per_row(range(POINTS))
    )
    states = np.stack([m.x.cpu().double().numpy() for m in moments])  # moments POINTS 2
    levels = np.array([m.level for m in moments])
    real = subject.first(POINTS)
    points = real.x.cpu().double().numpy()
    centre, half = frame_of(
        np.concatenate([points, np.quantile(states[0], [0.01, 0.99], axis=0)]), 1.1
    )
    extent = (centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half)

    near, wide = frame_of(points, 1.35)
    ticks = [np.linspace(c - wide, c + wide, ARROWS + 2)[1:-1] for c in near]
    grid = (
        torch.from_numpy(np.stack(np.meshgrid(*ticks), -1).reshape(-1, 2)).float().to(loaded.device)
    )
    of_grid = None if y is None else subject.labels(1).expand(len(grid), *y.shape[1:])
    goal = subject.model.clean(grid, AT, of_grid, options)
    push = (goal - grid).cpu().double().numpy()
    z = subject.rng("field").per_row(range(len(real))).normal("z", real.x.shape)
    cloud = subject.model.noised(real.x, AT, z).cpu().double().numpy()

    side, small = (WIDTH - 24) / 2, (WIDTH - 8 * (len(CLOUDS) - 1)) / len(CLOUDS)
    note = (
        f"Left: {PATHS} ways from noise (○) to a sample (●), {len(moments) - 1} steps. Right: at {100 * AT:.0f} % noise, arrows from where a point is towards what the model takes it for, at a "
        f"quarter of their length: the velocity of the flow, and up to a drift to the middle the score, the direction in which the noised data (grey) get denser. Below: {POINTS} points on their way."
    )
    sheet = Sheet(
        f"Ways from noise to data of {plain(loaded.run.name)}",
        note,
        subject.caption("trajectories"),
        side + 38 + small + 6,
    )
    axes = sheet.axes(0, 18, side, side)
    density(axes, subject, extent, points)
    for way in states[:, :PATHS].transpose(1, 0, 2):
        axes.plot(*way.T, color=MODEL, linewidth=0.8, alpha=0.55)
    axes.scatter(
        *states[0, :PATHS].T, s=14, facecolors="none", edgecolors=SOFT, linewidths=0.8, zorder=3
    )
    axes.scatter(*states[-1, :PATHS].T, s=8, color=MODEL, linewidths=0, zorder=4)
    framed(axes, extent, "ways")
    axes = sheet.axes(side + 24, 18, side, side)
    axes.scatter(*cloud.T, s=6, color=REAL, alpha=0.35, linewidths=0)
    axes.quiver(
        *grid.cpu().numpy().T,
        *(push / 4).T,
        angles="xy",
        scale_units="xy",
        scale=1,
        color=ACCENT,
        width=0.0032,
        headwidth=4,
        headlength=4.5,
        headaxislength=4,
        zorder=3,
    )
    framed(
        axes,
        (near[0] - wide, near[0] + wide, near[1] - wide, near[1] + wide),
        f"field at {100 * AT:.0f} % noise",
    )
    for j, level in enumerate(CLOUDS):
        i = int(np.abs(levels - level).argmin())
        axes = sheet.axes(j * (small + 8), side + 42, small, small)
        axes.scatter(*points.T, s=2, color=REAL, alpha=0.25, linewidths=0)
        axes.scatter(*states[i].T, s=3, color=MODEL, alpha=0.7, linewidths=0)
        framed(axes, extent, f"{of_level(levels[i])} noise")
    numbers = {
        "steps": len(moments) - 1,
        "ends": states[-1, :PATHS],
        "starts": states[0, :PATHS],
        "level": AT,
        "grid": grid,
        "push": push,
    }
    return sheet.done(
        numbers,
        f"Ways of {PATHS} points from noise to the data, the field of arrows that moves them at {100 * AT:.0f} % noise, and clouds of points at {len(CLOUDS)} moments.",
    )


def density(axes, subject: FigureContext, extent, points: np.ndarray, cells: int = 200) -> None:
    """Real points, over the true density where it is known."""
    axes.scatter(*points.T, s=9, color=REAL, alpha=0.25, linewidths=0)
    if subject.dataset.log_density is None:
        return
    xs, ys = np.linspace(*extent[:2], cells), np.linspace(*extent[2:], cells)
    p = np.exp(
        subject.dataset.log_density(np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2))
    ).reshape(cells, cells)
    axes.imshow(
        np.sqrt(p),
        origin="lower",
        extent=extent,
        cmap="Greys",
        alpha=0.55,
        vmin=0,
        vmax=1.2 * np.sqrt(p.max()),
        interpolation="bilinear",
    )


def framed(axes, extent, title: str) -> None:
    axes.set_xlim(*extent[:2]), axes.set_ylim(*extent[2:])
    axes.set_aspect("equal"), axes.set_xticks([]), axes.set_yticks([])
    axes.set_title(title, fontsize=8, fontweight="normal", color=SOFT, pad=3)


# -- what steps are worth ------------------------------------------------------------------------------------

STEPS = (1, 2, 4, 10, 20, 35)
SAMPLES = {
    "image": 500,
    "vector": 2000,
}  # measured of each: a figure may take a quarter of a minute


def why_no_steps(subject: FigureContext) -> str:
    if subject.spec.kind == "tokens":
        return "it is for images, points and tables"
    return (
        ""
        if "steps" in subject.loaded.family.Options.model_fields
        else "this model samples without --steps"
    )


def measured(subject: FigureContext) -> tuple[str, object, Estimate | None]:
    """The name of a distance, the function of samples that gives it, and what held-out examples score. Of few pictures a kernel
    distance, which a Fréchet distance of so many features would refuse."""
    quality_reference = reference_for(subject.dataset)
    main = quality_reference.maps[0]
    train, test = (
        quality_reference.features(main, "train"),
        quality_reference.features(main, "test"),
    )
    if subject.spec.kind == "image" and len(train) >= frechet.FEW * train.shape[1]:
        name, distance = (
            f"Fréchet distance ({main.name.partition('/')[0]})",
            lambda features: frechet.frechet(features, train),
        )
    else:
        most = min(len(train), SAMPLES["vector"])
        name, distance = (
            "kernel distance",
            lambda features: scaled_kernel_distance(features, train, most, features is not test),
        )
    try:
        real = distance(test)
    except UsageError:  # too few
        real = None
    return name, lambda x: distance(extract(main, [x])), real


def draw_steps(subject: FigureContext) -> Drawing:
    """Distance to the training examples, and time, by evaluations of the network, without new noise on the way; for images the same noise each time."""
    loaded, spec = subject.loaded, subject.spec
    n = SAMPLES[spec.kind]
    name, distance, real = measured(subject)
    found, shown = [], []
    for steps in STEPS:
        begin = time.perf_counter()
        x = sample.sample(
            loaded, n, subject.seed, subject.label, {"steps": steps, "sampler": "dpm"}
        ).cpu()
        seconds = (time.perf_counter() - begin) / -(-n // sample.BLOCK)
        found.append((steps, distance(x), seconds)), shown.append(x)
    note = (
        f"Left: distance of {n:,} samples to the training examples, its bias taken off, with its 95 % interval; less is better. "
        + (
            f"Dashed: {real.value:.3g}, held-out examples in the samples' place. "
            if real and real.value > 0
            else ""
        )
        + (
            "Right: what the same noise becomes. "
            if spec.kind == "image"
            else "Right: samples. "
            if not is_plane(subject)
            else ""
        )
        + "Times are this machine's."
    )
    height, left = 320.0, 440.0
    sheet = Sheet(
        f"What steps are worth to {plain(loaded.run.name)}",
        note,
        subject.caption("steps"),
        height,
    )
    curve(sheet, found, real, name, left - 40, height)
    drawn = (
        _steps_of_images
        if spec.kind == "image"
        else _steps_of_points
        if not is_plane(subject)
        else None
    )
    if drawn:
        drawn(sheet, subject, shown, left, height)
    numbers = {
        "metric": name,
        "n": n,
        "real": real.value if real else None,
        "steps": STEPS,
        "value": [e.value for _, e, _ in found],
        "interval": [e.interval for _, e, _ in found],
        "seconds_for_64": [seconds for *_, seconds in found],
    }
    told = ", ".join(f"{e.value:.3g} at {steps}" for steps, e, _ in found)
    return sheet.done(numbers, f"{name} by evaluations of the network: {told}.")


def curve(
    sheet: Sheet,
    found: list[tuple[int, Estimate, float]],
    real: Estimate | None,
    name: str,
    width: float,
    height: float,
) -> None:
    """Both axes logarithmic; a distance that is 0 within its error lies on the lower edge. Times under the steps."""
    axes = sheet.axes(52, 22, width - 52, height - 84)
    steps, values = [s for s, *_ in found], np.array([e.value for _, e, _ in found])
    ends = np.array([e.interval or (e.value, e.value) for _, e, _ in found])
    above = [v for v in (*values, *(ends[:, 1]), *([real.value] if real else [])) if v > 0]
    floor = 0.6 * min(above, default=1.0)
    at = np.maximum(values, floor)
    axes.set_xscale("log"), axes.set_yscale("log")
    axes.vlines(
        steps,
        np.maximum(ends[:, 0], floor),
        np.maximum(ends[:, 1], floor),
        color=MODEL,
        linewidth=3,
        alpha=0.3,
    )
    axes.plot(steps, at, color=MODEL, marker="o", markersize=4.5, linewidth=1.4)
    if real and real.value > floor:
        axes.axhline(real.value, color=REAL, linewidth=1, linestyle=(0, (4, 3)))
    for step, value, told in zip(steps, at, values):
        axes.annotate(
            (f"{told:,.0f}" if 10 <= told < 1e7 else f"{told:.2g}") if told > 0 else "≤ 0",
            (step, value),
            xytext=(0, 7),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
            ha="center",
            path_effects=halo(),
        )
    axes.set_xticks(
        steps, [f"{step}\n{words(seconds)}" for step, _, seconds in found], fontsize=7.5
    )
    axes.xaxis.set_minor_locator(NullLocator()), axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=floor)
    axes.margins(x=0.08)
    axes.grid(True, axis="y")
    axes.set_xlabel("evaluations of the network for a sample; time for 64 of them", fontsize=8)
    sheet.text(0, 0, plain(name, 60), size=9, weight="bold")


def words(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _steps_of_images(
    sheet: Sheet, subject: FigureContext, shown: list[Tensor], left: float, height: float
) -> None:
    """A column for each number of steps; a row is one noise."""
    spec, n = subject.spec, len(STEPS)
    cell = min((WIDTH - left) / n - GAP, 56.0)
    rows = max(1, min(8, int((height - 20) / row_height(spec, cell))))
    for j, steps in enumerate(STEPS):
        sheet.text(
            left + (j + 0.5) * (cell + GAP) - GAP / 2,
            0,
            str(steps),
            size=7.5,
            color=SOFT,
            ha="center",
        )
    for i in range(rows):
        rows_of_images(
            sheet,
            [("", "", subject.pixels(torch.stack([x[i] for x in shown]).clamp(-1, 1)))],
            cell,
            16 + i * row_height(spec, cell),
            label=left,
        )


def _steps_of_points(
    sheet: Sheet, subject: FigureContext, shown: list[Tensor], left: float, height: float
) -> None:
    """The clouds of points."""
    points = subject.first(POINTS).x.cpu().double().numpy()
    (x, y), half = frame_of(points, 1.2)
    side = (WIDTH - left - 16) / 3
    for j, (steps, cloud) in enumerate(zip(STEPS, shown)):
        axes = sheet.axes(left + j % 3 * (side + 8), 18 + j // 3 * (side + 24), side, side)
        axes.scatter(*points.T, s=2, color=REAL, alpha=0.3, linewidths=0)
        axes.scatter(*cloud[:POINTS].double().numpy().T, s=3, color=MODEL, alpha=0.7, linewidths=0)
        framed(
            axes, (x - half, x + half, y - half, y + half), f"{steps} evaluation{'s' * (steps > 1)}"
        )
