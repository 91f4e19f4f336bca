"""What figures of several models share: their contexts, titles and captions."""

from collections.abc import Sequence

from ..core.capabilities import Encodes, Predicts, has
from ..families import short_name
from ..runs.load import LoadedRun
from .context import FigureContext
from .style import plain


def caption_of(contexts: Sequence[FigureContext], name: str) -> list[str]:
    """Like FigureContext.caption, for several runs."""
    first = contexts[0]
    runs = ", ".join(f"{plain(c.loaded.run.name, 60)} ({c.trained})" for c in contexts)
    paths = " ".join(str(c.loaded.run.path) for c in contexts)
    command = first.command or f"fromnoise compare {paths} --seed {first.seed}"
    data = f"{plain(first.dataset.name, 60)} ({first.split})"
    return [
        f"{name} · runs {runs} · data {data} · seed {first.seed}",
        f"$ {plain(command, 400)}",
    ]


def title_of(run: LoadedRun) -> str:
    """A short title of a model: its kind, the size of its code, and what it is conditioned on."""
    model = run.model
    config = model.config
    kind = getattr(config, "model", "")
    if not kind and has(model, Predicts):
        kind = getattr(config, "network", "")
    parts = [kind or short_name(run.run.info)]
    if has(model, Encodes):
        parts.append(f"{model.latent_dim}-D")
    corruption = getattr(config, "corruption", "none")
    if corruption != "none":
        parts.append(f"{corruption} denoiser")
    if model.conditional:
        parts.append("given the class")
    return ", ".join(parts)


def titles_of(runs: Sequence[LoadedRun], titles: Sequence[str] | None = None) -> list[str]:
    """The given or default titles; where two are the same, the name of the run is added."""
    titles = [plain(title, 60) for title in titles or map(title_of, runs)]
    unique = []
    for title, run in zip(titles, runs):
        is_shared = titles.count(title) > 1
        unique.append(f"{title} ({plain(run.run.name, 30)})" if is_shared else title)
    return unique
