"""KL divergence of the posterior from the prior by latent dimension, and the active units."""

import numpy as np
import torch

from ...core.capabilities import EncodesDistribution, has
from ...measures.latents import ACTIVE, active_units
from ..conditions import encodes
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..style import ACCENT, MODEL, SOFT, WIDTH, Drawing, Sheet

BARS = 128  # latent dimensions that are drawn at most
INACTIVE = "#c4c9d2"


def why_not(context: FigureContext) -> str:
    if not has(context.model, EncodesDistribution):
        return "this model has no KL term by latent dimension"
    if len(context.dataset.split(context.split)) > 1:
        return ""
    return f"it needs two or more examples in the {context.split} split"


@torch.no_grad()
def kl_of_dims(context: FigureContext) -> np.ndarray:
    """Mean KL(q || p) over the first examples of the split by latent dimension, nats, (D,)."""
    total = 0
    n = 0
    for batch, rows in context.batches():
        rng = context.rng("kl").per_row(rows)
        total = total + context.model.kl_per_dimension(batch.x, batch.y, rng).double() * len(batch)
        n += len(batch)
    return (total / n).cpu().numpy()


def draw_kl(context: FigureContext) -> Drawing:
    z = context.codes.z
    kl = kl_of_dims(context)
    variance = z.var(0, ddof=1)
    order = np.argsort(-kl, kind="stable")
    active = active_units(torch.from_numpy(z), torch.from_numpy(kl)).numpy()
    shown = order[:BARS]
    note = (
        f"{int(active.sum())} of {len(kl)} latent units are active: the variance of their "
        f"posterior mean over {len(z):,} {context.split} examples (Burda et al. 2016) and their KL "
        f"are above {ACTIVE}. Total KL: {kl.sum():.2f} nats per example."
    )
    if len(shown) < len(kl):
        note += f" The {len(shown)} dimensions with the largest KL."
    sheet = Sheet("KL(q(z|x) || p(z)) by latent dimension", note, context.caption("kl"), 400)
    colors = [ACCENT if active[dim] else INACTIVE for dim in shown]
    _draw_bars(sheet, kl[shown], shown, colors)
    _draw_variances(sheet, variance[shown], shown, colors)
    legend = [("■", ACCENT, "active"), ("■", INACTIVE, "inactive")]
    sheet.add_legend(WIDTH - 170, 2, legend)
    numbers = {
        "dims": order,
        "kl": kl[order],
        "variance_of_mean": variance[order],
        "active": int(active.sum()),
        "threshold": ACTIVE,
        "n": len(z),
    }
    alt = (
        f"Bars of KL by latent dimension: {int(active.sum())} of {len(kl)} units active, "
        f"{kl.sum():.2f} nats in all."
    )
    return sheet.finish(numbers, alt)


def _draw_bars(sheet: Sheet, kl: np.ndarray, dims: np.ndarray, colors: list[str]) -> None:
    axes = sheet.add_axes(60, 16, WIDTH - 70, 190)
    bars = axes.bar(np.arange(len(kl)), kl, color=colors, width=0.8)
    axes.set_title("KL, nats per example")
    if len(kl) <= 24:
        axes.bar_label(bars, fmt="%.2f", fontsize=7, color=SOFT)
    _set_dims(axes, dims)


def _draw_variances(
    sheet: Sheet, variance: np.ndarray, dims: np.ndarray, colors: list[str]
) -> None:
    axes = sheet.add_axes(60, 262, WIDTH - 70, 96)
    axes.scatter(np.arange(len(dims)), np.maximum(variance, 1e-8), color=colors, s=16)
    axes.set_yscale("log")
    axes.axhline(ACTIVE, color=MODEL, linewidth=1, linestyle="--")
    style = {"color": MODEL, "fontsize": 7.5, "ha": "right", "va": "bottom"}
    axes.text(max(len(dims), 8) - 0.5, ACTIVE, "below: inactive ", **style)
    axes.set_title("variance of the posterior mean (log axis)")
    axes.set_xlabel("latent dimension, largest KL first", labelpad=2)
    _set_dims(axes, dims)


def _set_dims(axes, dims: np.ndarray) -> None:
    axes.set_xlim(-0.6, max(len(dims), 8) - 0.4)
    axes.grid(True, axis="y")
    labels = list(map(str, dims)) if len(dims) <= 40 else []
    axes.set_xticks(range(len(labels)), labels)


FIGURE = Figure(
    name="kl",
    about="KL by latent dimension, active units",
    group="latents",
    needs=(encodes, why_not),
    draw=draw_kl,
    on_page=always,
    section=Section(
        "KL by latent dimension",
        "The information about x in each latent dimension, nats; 0: the dimension is unused.",
        place=170,
        is_small=True,
    ),
)
