"""The figures of a report page about several runs."""

from collections.abc import Sequence
from pathlib import Path

from ...core.capabilities import (
    Completes,
    Decodes,
    Encodes,
    Judges,
    Predicts,
    Reconstructs,
    Traces,
    has,
)
from ...evaluate.quality import QualityReference
from ...runs.load import LoadedRun
from ..context import FigureContext
from ..figures.catalogue import FIGURES, show
from ..figures.compare import compare_planes, compare_recon, compare_samples, title_of
from ..figures.neighbours import compare_nearest
from ..figures.quality_vs_cost import compare_trade

PLANES = 3  # side by side at most


def page_figures(
    runs: Sequence[LoadedRun],
    out: Path,
    titles: Sequence[str] | None = None,
    *,
    seed: int = 0,
    split: str = "test",
    command: str = "",
    reports: Sequence[dict] = (),
    quality_reference: QualityReference | None = None,
) -> dict[str, Path]:
    """Draws what a page shows into ``out``: PNGs by "figure" or "run/figure", as ``write_page`` takes them.

    reports: of the same runs, for the figures that show measurements; yardstick: what they were measured with.
    """
    titles = list(titles or map(title_of, runs))
    given = {"seed": seed, "split": split, "command": command}
    found: dict[str, list[Path]] = {}
    kind = runs[0].dataset.spec.kind
    of_images = kind == "image"
    planar = [i for i, r in enumerate(runs) if has_plane(r)][:PLANES]
    if planar and of_images:
        found["planes"] = compare_planes(
            [runs[i] for i in planar], [titles[i] for i in planar], out=out, **given
        )
    for i, name in names_of(runs).items():
        if can(runs[i], "denoise"):
            found[f"{name}/denoise"] = show(
                runs[i], ["denoise"], plain=plain_beside(runs, runs[i]), out=out / str(i), **given
            )
    if of_images and any(has(r.model, Reconstructs) for r in runs):
        found["recon"] = compare_recon(runs, titles, out=out, **given)
    if of_images:
        found["samples"] = compare_samples(
            runs, titles, out=out, quality_reference=quality_reference, **given
        )
        found["nearest"] = compare_nearest(
            runs, titles, out=out, quality_reference=quality_reference, **given
        )
    if files := compare_trade(reports, titles, out=out, command=command):
        found["trade"] = files
    for i, name in names_of(runs).items():
        own = [*(["samples"] if kind == "vector" else []), "worst", "kl"]
        own += ["duel", "progress"] if has(runs[i].model, Judges) else []
        own += ["denoising", "trajectories", "steps"] if has(runs[i].model, Traces) else []
        if kind == "tokens" and has(
            runs[i].model, Predicts
        ):  # counts stand in the window of every network
            own += ["surprise", *(["window"] if runs[i].model.phases() else [])]
        own += ["completions"] if has(runs[i].model, Completes) else []
        own += ["curves"]
        wanted = [figure for figure in own if can(runs[i], figure)]
        for figure in wanted:
            found[f"{name}/{figure}"] = show(
                runs[i], [figure], out=out / str(i), skip=True, **given
            )
    return {
        key: next(path for path in files if path.suffix == ".png")
        for key, files in found.items()
        if files
    }


def names_of(runs: Sequence[LoadedRun]) -> dict[int, str]:
    """Index -> the run's name, as reports have it."""
    return {i: r.run.name for i, r in enumerate(runs)}


def has_plane(r: LoadedRun) -> bool:
    """Is the latent space itself a plane, with an encoder and a decoder?"""
    return (
        has(r.model, Encodes)
        and has(r.model, Decodes)
        and r.model.latent_dim == 2
        and not is_denoiser(r)
    )


def is_denoiser(r: LoadedRun) -> bool:
    return getattr(r.model.config, "corruption", "none") != "none"


def can(r: LoadedRun, figure: str) -> bool:
    return not FIGURES[figure].why_not(FigureContext(r))


def plain_beside(runs: Sequence[LoadedRun], denoiser: LoadedRun) -> LoadedRun | None:
    """The model of the same family, trained on clean images, whose code is nearest in size to the denoiser's."""

    def fits(r):
        return (
            r.family.name == denoiser.family.name
            and not is_denoiser(r)
            and r.dataset.digest == denoiser.dataset.digest
        )

    def size(r):
        return abs(getattr(r.model, "latent_dim", 0) - getattr(denoiser.model, "latent_dim", 0))

    return min(filter(fits, runs), key=size, default=None)
