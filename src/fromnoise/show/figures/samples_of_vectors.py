"""Samples of points in the plane and of tables, real beside generated."""

import numpy as np
from matplotlib.axes import Axes

from ...inference import sample
from ...inference.write import to_data_units
from ..context import FigureContext
from ..points import count_outside, draw_histogram, extent_of, frame_of, set_extent
from ..style import MODEL, REAL, WIDTH, Drawing, Sheet, plain

MAX_COLUMNS = 12
MAX_CATEGORIES = 12
N = 2000


def draw_samples(context: FigureContext) -> Drawing:
    """A scatter plot of points in the plane, else a histogram of each column."""
    n = min(N, len(context.dataset.split(context.split)))
    options = {"draw": "sample"} if "draw" in context.loaded.family.Options.model_fields else {}
    generated = sample.sample(context.loaded, n, context.seed, options=options)
    real = context.first(n).x
    note = f"{n:,} {context.split} examples beside the first {n:,} samples of this seed."
    if options:
        note += " Samples are drawn from p(x|z), with its noise (draw = sample)."
    if context.spec.dims == 2 and context.dataset.columns is None:
        return _draw_points(
            context, real.cpu().double().numpy(), generated.cpu().double().numpy(), note
        )
    real_columns = _columns_of(context, real)
    return _draw_columns(context, real_columns, _columns_of(context, generated), note)


def _columns_of(context: FigureContext, x) -> dict[str, np.ndarray]:
    x = to_data_units(context.dataset, x)
    return x if isinstance(x, dict) else {f"x{i}": column for i, column in enumerate(x.T)}


def _draw_points(
    context: FigureContext, real: np.ndarray, generated: np.ndarray, note: str
) -> Drawing:
    side = (WIDTH - 100) / 2
    numbers = {"n": len(real), "generated": generated[:500]}
    if context.dataset.log_density is not None:
        of_real = _mean_finite(context.dataset.log_density(real))
        of_generated = _mean_finite(context.dataset.log_density(generated))
        numbers["mean_log_density"] = {"real": of_real, "generated": of_generated}
        note += (
            f" Mean true log p(x): {of_real[0]:.2f} nats for real points, "
            f"{of_generated[0]:.2f} for generated ones."
        )
        if of_generated[1]:
            share = f"{100 * of_generated[1]:.0f} %"
            note += f" The true density is 0 at {share} of the generated points."
    title = f"Samples of {context.name}"
    sheet = Sheet(title, note, context.caption("samples"), side + 44)
    centre, half = frame_of(real)
    outside = count_outside(generated, centre, half)
    suffix = f" ({outside} outside the frame)" if outside else ""
    for i, (name, x, color) in enumerate(
        (("real", real, REAL), (f"generated{suffix}", generated, MODEL))
    ):
        axes = sheet.add_axes(36 + i * (side + 56), 18, side, side)
        axes.scatter(*x.T, s=5, color=color, alpha=0.55, linewidths=0)
        set_extent(axes, extent_of(centre, half))
        axes.set_title(name, color=color)
        axes.grid(True)
    alt = f"{len(real)} real points beside {len(generated)} generated ones, on the same axes."
    return sheet.finish(numbers, alt)


def _mean_finite(log_p: np.ndarray) -> tuple[float, float]:
    """The mean where the density is not zero, and the share of points where it is zero."""
    is_inside = np.isfinite(log_p)
    mean = float(log_p[is_inside].mean()) if is_inside.any() else float("nan")
    return mean, float(1 - is_inside.mean())


def _draw_columns(context: FigureContext, real: dict, generated: dict, note: str) -> Drawing:
    names = list(real)[:MAX_COLUMNS]
    if len(real) > len(names):
        note += f" The first {len(names)} of {len(real)} columns."
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    width = (WIDTH - 44 * columns) / columns
    height = 128
    title = f"Samples of {context.name}"
    sheet = Sheet(title, note, context.caption("samples"), rows * (height + 58) + 14)
    sheet.add_legend(WIDTH - 170, 0, [("■", REAL, "real"), ("■", MODEL, "generated")])
    numbers = {}
    all_axes = sheet.add_panels(len(names), columns, width, height, (44, 58), 34, 34)
    for axes, name in zip(all_axes, names):
        of_real = np.asarray(real[name])
        of_generated = np.asarray(generated[name])
        draw = _draw_histogram if of_real.dtype.kind in "iuf" else _draw_bars
        numbers[plain(name)] = draw(axes, of_real, of_generated)
        axes.set_title(plain(name, 36), parse_math=False)
    alt = f"Distribution of {len(names)} columns, real beside generated."
    return sheet.finish(numbers, alt)


def _draw_histogram(axes: Axes, real: np.ndarray, generated: np.ndarray) -> dict:
    low = float(real.min())
    high = float(real.max())
    edges = np.linspace(low, high if high > low else low + 1, 31)
    shares = [draw_histogram(axes, x, edges, c) for x, c in ((real, REAL), (generated, MODEL))]
    return {"edges": edges, "real": shares[0], "generated": shares[1]}


def _draw_bars(axes: Axes, real: np.ndarray, generated: np.ndarray) -> dict:
    real = real.astype(str)
    generated = generated.astype(str)
    names, counts = np.unique(np.concatenate([real, generated]), return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][:MAX_CATEGORIES]
    real_shares = [float((real == name).mean()) for name in names]
    generated_shares = [float((generated == name).mean()) for name in names]
    places = np.arange(len(names))
    axes.bar(places - 0.2, real_shares, 0.38, color="#aeb4bf")
    axes.bar(places + 0.2, generated_shares, 0.38, color=MODEL)
    is_tilted = sum(map(len, names)) > 24
    axes.set_xticks(
        places,
        [plain(name, 12) for name in names],
        rotation=35 if is_tilted else 0,
        ha="right" if is_tilted else "center",
        parse_math=False,
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(True, axis="y")
    categories = list(map(str, names))
    return {"categories": categories, "real": real_shares, "generated": generated_shares}
