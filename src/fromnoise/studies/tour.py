"""The main job: small models of every family on real data, trained for equal seconds, measured, drawn on one page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, UsageError
from ..core.files import storage_error
from ..evaluate.summary import summary
from ..runs.load import LoadedRun, load_run
from ..runs.paths import next_folder
from ..training.budget import format_plan, read_plan
from ..training.launch import command_line, start_run
from ..training.plan import Plan, make_plan
from .comparison import compare, measured, sizes


@dataclass(frozen=True)
class Stop:
    """One model of the tour. title: how the page calls it; within: the stop in whose codes it is trained."""

    name: str
    family: str
    preset: str
    title: str
    options: dict
    within: str = ""


SAMPLES = 2000  # drawn of each model and measured
LONG = 256  # components of an image, above which drawing them one after another takes more than a tour's patience

# The first three share one bottleneck of two numbers, and the last two of the first three one network: what
# differs between their latent planes is the objective.
STOPS = (
    Stop("pca", "classical", "lecture", "PCA, 2 numbers", {}),
    Stop("autoencoder", "autoencoder", "lecture", "autoencoder, 2 numbers", {}),
    Stop("vae", "vae", "lecture", "VAE, 2 numbers", {}),
    Stop("mixture", "classical", "mixture", "Gaussian mixture", {}),
    Stop(
        "plain",
        "autoencoder",
        "denoising",
        "autoencoder, 16 numbers, and a mixture",
        {"corruption": "none", "latent_dim": 16},
    ),
    Stop(
        "denoising",
        "autoencoder",
        "denoising",
        "denoising autoencoder, 16 numbers",
        {"latent_dim": 16},
    ),
    Stop("vae-16", "vae", "mlp", "VAE, 16 numbers", {"latent_dim": 16}),
    Stop("ladder", "vae", "ladder", "hierarchical VAE", {}),
    Stop("vaegan", "vaegan", "conv", "VAE-GAN, 16 numbers", {"latent_dim": 16}),
    Stop("gan", "gan", "conv", "GAN", {}),
    Stop(
        "autoregressive",
        "autoregressive",
        "default",
        "auto-regressive, pixel by pixel",
        {"size": 1, "batch_size": 16},
    ),
    Stop("diffusion", "diffusion", "default", "diffusion (flow)", {"width": 32, "batch_size": 64}),
    Stop(
        "latent",
        "diffusion",
        "default",
        "flow within the codes of the VAE, 16 numbers",
        {},
        within="vae-16",
    ),
)
TEXT = "python-docs"
TEXT_STOPS = (
    Stop("ngram", "autoregressive", "ngram", "counts of 6 characters (n-gram)", {}),
    Stop("gpt", "autoregressive", "text", "small Transformer", {"size": 1, "batch_size": 16}),
)


def tour(
    out: Path, data: str, seconds: int, seed: int, say: Callable[[str], None]
) -> tuple[Path, list[dict]]:
    """Trains, measures and draws all stops; returns the page and the reports. Raises as training does."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: name a folder")
    plans = planned(STOPS, data, seconds, seed)
    for note in plans["pca"].dataset.notes:
        say(f"data: {note}")
    if plans["autoregressive"].dataset.spec.dims > LONG:
        say(
            f"without the auto-regressive model: it draws more than {LONG} components one after another, which takes long"
        )
        del plans["autoregressive"]
    try:
        text_plans = planned(TEXT_STOPS, TEXT, seconds, seed)
    except DataError as error:
        say(f"without text: {error}")
        text_plans = {}
    if out.exists() and any(out.iterdir()):
        kept = next_folder(out.parent, out.name)
        try:
            out.rename(kept)
        except OSError as error:
            raise storage_error(error, out) from error
        say(f"the tour that was in {out} is kept in {kept}")
    stops = [stop for stop in STOPS if stop.name in plans]
    runs, commands = trained(stops, plans, data, out, say)
    text_runs, text_commands = trained(
        [stop for stop in TEXT_STOPS if stop.name in text_plans], text_plans, TEXT, out, say
    )
    say("")
    beside = [text_section(text_runs, seconds, seed, out, say)] if text_runs else []
    page, reports = compare(
        runs,
        out / "report.html",
        samples=SAMPLES,
        seed=seed,
        say=say,
        titles=[stop.title for stop in stops],
        head=("fromnoise tour", _intro(runs, seconds, bool(text_runs))),
        commands=commands + text_commands,
        figures=out / "figures",
        beside=beside,
    )
    say("")
    for line in summary(reports).split("\n"):
        say(line)
    for other in beside:
        for line in ("", f"{TEXT}, text", *summary(other.reports).split("\n")):
            say(line)
        reports = reports + other.reports
    return page, reports


def planned(
    stops: tuple[Stop, ...], data: str, seconds: int, seed: int
) -> dict[str, Plan | dict]:
    """Plans, as far as they can be made: of a stop within another one only the options. Raises UsageError, DataError."""
    options = {
        s.name: dict(minutes=seconds / 60, seed=seed, intervals=8, **s.options) for s in stops
    }
    return {
        s.name: options[s.name]
        if s.within
        else make_plan(s.family, data, s.preset, **options[s.name])
        for s in stops
    }


def trained(
    stops: list[Stop],
    plans: dict[str, Plan | dict],
    data: str,
    out: Path,
    say: Callable[[str], None],
) -> tuple[list[LoadedRun], list[str]]:
    """The models, and the commands that make them again."""
    runs, commands = [], []
    for stop in stops:
        plan = (
            make_plan(stop.family, data, None, out / stop.within, **plans[stop.name])
            if stop.within
            else plans[stop.name]
        )
        run = start_run(plan, out / stop.name, "fromnoise tour")
        exact = {"seed": run.record.seed, "intervals": 8, **stop.options}
        plan = read_plan(run)  # minutes depend on the machine
        exact |= (
            {"plan": format_plan(plan)}
            if len({total for _, total in plan}) > 1
            else {"steps": plan[-1][1]}
            if plan[-1][1]
            else {}
        )
        flags = [
            part
            for key, value in exact.items()
            for part in (f"--{key.replace('_', '-')}", str(value))
        ]
        where = ["--within", str(out / stop.within)] if stop.within else ["--preset", stop.preset]
        commands.append(command_line(["train", stop.family, "--data", data, *where, *flags]))
        runs.append(load_run(run))
        say(f"trained {stop.title}")
    return runs, commands


def text_section(
    runs: list[LoadedRun], seconds: int, seed: int, out: Path, say: Callable[[str], None]
):
    """The models of text, measured, with figures of the last."""
    from ..show.page.gallery import page_figures
    from ..show.page.page import DataSection

    titles = [stop.title for stop in TEXT_STOPS]
    reports, _ = measured(runs, seed=seed, say=say, titles=titles)
    intro = (
        f"Two models of Python's own language reference ({sizes(runs[0].dataset).removesuffix('.')}), which predict each character from those before it. One counts; "
        f"the other is a network, trained for about {seconds} seconds. Counts are hard to beat in so little time."
    )
    drawn = page_figures(
        runs[-1:], out / "figures" / "text", titles[-1:], seed=seed, command=command_line()
    )
    return DataSection("text", "Text", intro, runs, reports, drawn)


def _intro(runs: list[LoadedRun], seconds: int, text: bool) -> str:
    dataset = runs[0].dataset
    train, test = (len(dataset.split(name)) for name in ("train", "test"))
    return (
        f"{len(runs)} models of {dataset.name}, the networks trained for about {seconds} seconds each on {train:,} examples and measured on "
        f"{test:,} that they never saw. PCA and the mixture are fitted in closed form: the baselines that a network has to beat."
        + (" Two models of text have a section of their own." if text else "")
    )
