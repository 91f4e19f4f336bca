"""Axes for points in the plane."""

import numpy as np
from matplotlib.axes import Axes

from .style import MODEL, REAL, SOFT

Extent = tuple[float, float, float, float]  # left, right, bottom, top


def frame_of(real: np.ndarray, widen: float = 1.15) -> tuple[np.ndarray, float]:
    """Centre (2,) and half the side of the square that holds the real points (N, 2)."""
    low = real.min(0)
    high = real.max(0)
    return (low + high) / 2, half_side(low, high, widen)


def half_side(low: np.ndarray, high: np.ndarray, widen: float) -> float:
    """Half the side of a square that holds the box from low (2,) to high (2,). Never 0."""
    half = float((high - low).max()) / 2 * widen
    return half if half > 1e-6 * max(1.0, float(np.abs([low, high]).max())) else 1.0


def extent_of(centre: np.ndarray, half: float) -> Extent:
    return (centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half)


def set_extent(axes: Axes, extent: Extent) -> None:
    """Limits of the axes, the same scale on both."""
    axes.set_xlim(*extent[:2])
    axes.set_ylim(*extent[2:])
    axes.set_aspect("equal")


def set_bare_frame(axes: Axes, extent: Extent, title: str) -> None:
    """The same without ticks, with a small title."""
    set_extent(axes, extent)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8, fontweight="normal", color=SOFT, pad=3)


def grid_points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """All pairs of the numbers x (A,) and y (B,), those of the first y first: (A * B, 2)."""
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def draw_histogram(axes: Axes, x: np.ndarray, edges: np.ndarray, color: str) -> np.ndarray:
    """The share of x between edges, filled, without a scale. Returns the shares."""
    shares = np.histogram(np.clip(x, edges[0], edges[-1]), edges)[0] / len(x)
    axes.stairs(shares, edges, fill=True, color=color, alpha=0.18)
    axes.stairs(shares, edges, color=color, linewidth=1.4)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return shares


def draw_clouds(axes: Axes, real: np.ndarray, generated: np.ndarray, size: float) -> None:
    """Generated points over real ones, both (N, 2)."""
    axes.scatter(*real.T, s=size, color=REAL, alpha=0.3, linewidths=0)
    axes.scatter(*generated.T, s=size + 1, color=MODEL, alpha=0.7, linewidths=0)


def draw_arrows(axes: Axes, starts: np.ndarray, arrows: np.ndarray, color: str) -> None:
    """An arrow from each point (N, 2), in the units of the axes."""
    head = {"headwidth": 4, "headlength": 4.5, "headaxislength": 4}
    scale = {"angles": "xy", "scale_units": "xy", "scale": 1}
    axes.quiver(*starts.T, *arrows.T, color=color, width=0.0035, zorder=3, **scale, **head)


def count_outside(points: np.ndarray, centre: np.ndarray, half: float) -> int:
    return int((np.abs(points - centre) > half).any(1).sum())
