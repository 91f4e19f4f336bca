"""Samples of data that are no images: points in the plane, columns of a table, real beside generated."""

import numpy as np

from ...inference import sample
from ...inference.write import to_data_units
from ..context import FigureContext
from ..style import MODEL, REAL, WIDTH, Drawing, Sheet, plain
from .progress import frame_of

MOST_COLUMNS = 12
MOST_CATEGORIES = 12
N = 2000


def draw_samples(subject: FigureContext) -> Drawing:
    """Real and generated: a scatter for points in the plane, else a histogram for each column."""
    n = min(N, len(subject.dataset.split(subject.split)))
    options = {"draw": "sample"} if "draw" in subject.loaded.family.Options.model_fields else {}
    generated = sample.sample(subject.loaded, n, subject.seed, options=options)
    real = subject.first(n).x
    note = f"{n:,} {subject.split} examples beside {n:,} samples, none picked."
    if options:
        note += " Samples are drawn from p(x|z), noise included (draw = sample), not its mean."
    if subject.spec.dims == 2 and subject.dataset.columns is None:
        return _plane(subject, real.cpu().double().numpy(), generated.cpu().double().numpy(), note)
    own = [to_data_units(subject.dataset, x) for x in (real, generated)]
    own = [
        x if isinstance(x, dict) else {f"x{i}": column for i, column in enumerate(x.T)} for x in own
    ]
    return _columns(subject, own[0], own[1], note)


def _plane(subject: FigureContext, real: np.ndarray, generated: np.ndarray, note: str) -> Drawing:
    side = (WIDTH - 100) / 2
    numbers = {"n": len(real), "generated": generated[:500]}
    if subject.dataset.log_density is not None:
        numbers["mean_log_density"] = {
            name: _mean_finite(subject.dataset.log_density(x))
            for name, x in (("real", real), ("generated", generated))
        }
        (a, _), (b, outside) = numbers["mean_log_density"].values()
        note += f" Mean true log p(x): {a:.2f} nats for real points, {b:.2f} for generated ones."
        note += (
            f" {100 * outside:.0f} % of the generated points lie where the true density is 0."
            if outside
            else ""
        )
    sheet = Sheet(
        f"Samples of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("samples"),
        side + 44,
    )
    centre, half = frame_of(real)
    beyond = int((np.abs(generated - centre) > half).any(1).sum())
    for i, (name, x, color) in enumerate((("real", real, REAL), ("generated", generated, MODEL))):
        axes = sheet.axes(36 + i * (side + 56), 18, side, side)
        axes.scatter(*x.T, s=5, color=color, alpha=0.55, linewidths=0)
        (
            axes.set_xlim(centre[0] - half, centre[0] + half),
            axes.set_ylim(centre[1] - half, centre[1] + half),
        )
        axes.set_aspect("equal")
        axes.set_title(
            name + (f" ({beyond} outside the frame)" if i and beyond else ""),
            fontsize=9,
            color=color,
        )
        axes.grid(True)
    return sheet.done(
        numbers,
        f"{len(real)} real points beside {len(generated)} generated ones, on the same axes.",
    )


def _mean_finite(log_p: np.ndarray) -> tuple[float, float]:
    """The mean where the density is not zero, and the share where it is."""
    inside = np.isfinite(log_p)
    return (float(log_p[inside].mean()) if inside.any() else float("nan")), float(1 - inside.mean())


def _columns(subject: FigureContext, real: dict, generated: dict, note: str) -> Drawing:
    names = list(real)[:MOST_COLUMNS]
    if len(real) > len(names):
        note += f" The first {len(names)} of {len(real)} columns."
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    width, height = (WIDTH - 44 * columns) / columns, 128
    sheet = Sheet(
        f"Samples of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("samples"),
        rows * (height + 58) + 14,
    )
    sheet.text(WIDTH - 170, 0, "■ real", color=REAL, size=9)
    sheet.text(WIDTH - 110, 0, "■ generated", color=MODEL, size=9)
    numbers = {}
    for i, name in enumerate(names):
        axes = sheet.axes(
            34 + i % columns * (width + 44), 34 + i // columns * (height + 58), width, height
        )
        a, b = np.asarray(real[name]), np.asarray(generated[name])
        is_number = a.dtype.kind in "iuf"
        numbers[plain(name)] = _histogram(axes, a, b) if is_number else _bars(axes, a, b)
        axes.set_title(plain(name, 36), fontsize=9, parse_math=False)
        axes.tick_params(labelsize=7.5)
    return sheet.done(numbers, f"Distribution of {len(names)} columns, real beside generated.")


def _histogram(axes, real: np.ndarray, generated: np.ndarray) -> dict:
    low, high = float(real.min()), float(real.max())
    edges = np.linspace(low, high if high > low else low + 1, 31)
    share = [
        np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0] / len(x) for x in (real, generated)
    ]
    axes.stairs(share[0], edges, fill=True, color="#d3d7de")
    axes.stairs(share[0], edges, color=REAL, linewidth=0.8)
    axes.stairs(share[1], edges, color=MODEL, linewidth=1.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return {"edges": edges, "real": share[0], "generated": share[1]}


def _bars(axes, real: np.ndarray, generated: np.ndarray) -> dict:
    real, generated = real.astype(str), generated.astype(str)
    names, counts = np.unique(np.concatenate([real, generated]), return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]
    share = [[float((x == name).mean()) for name in names] for x in (real, generated)]
    place = np.arange(len(names))
    axes.bar(place - 0.2, share[0], 0.38, color="#aeb4bf")
    axes.bar(place + 0.2, share[1], 0.38, color=MODEL)
    tilted = sum(map(len, names)) > 24
    axes.set_xticks(
        place,
        [plain(name, 12) for name in names],
        rotation=35 if tilted else 0,
        ha="right" if tilted else "center",
        parse_math=False,
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(True, axis="y")
    return {"categories": [str(name) for name in names], "real": share[0], "generated": share[1]}
