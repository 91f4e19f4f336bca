"""Small models of every family, trained on real data for equal seconds and compared on one page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.config import flag
from ..core.errors import DataError, UsageError
from ..core.files import storage_error
from ..evaluate.summary import summary
from ..runs.directory import Run
from ..runs.load import LoadedRun, load_run
from ..runs.paths import next_folder
from ..show.page import gallery
from ..show.page.page import DataSection
from ..training.budget import format_plan, read_plan
from ..training.launch import command_line, start_run
from ..training.plan import Plan, make_plan
from .comparison import compare, measured, sizes


@dataclass(frozen=True)
class TourModel:
    """One model of the tour. title: on the page; within: the model in whose codes it is trained."""

    name: str
    family: str
    preset: str
    title: str
    options: dict
    within: str = ""


SAMPLES = 2000  # drawn of each model and measured
INTERVALS = 8
MAX_PIXELS = 256  # of an image that is sampled pixel by pixel: larger ones take too long

# The first three share one bottleneck of two numbers, and the last two of the first three one network: what
# differs between their latent planes is the objective.
MODELS = (
    TourModel("pca", "classical", "lecture", "PCA, 2 numbers", {}),
    TourModel("autoencoder", "autoencoder", "lecture", "autoencoder, 2 numbers", {}),
    TourModel("vae", "vae", "lecture", "VAE, 2 numbers", {}),
    TourModel("mixture", "classical", "mixture", "Gaussian mixture", {}),
    TourModel(
        "plain",
        "autoencoder",
        "denoising",
        "autoencoder, 16 numbers, and a mixture",
        {"corruption": "none", "latent_dim": 16},
    ),
    TourModel(
        "denoising",
        "autoencoder",
        "denoising",
        "denoising autoencoder, 16 numbers",
        {"latent_dim": 16},
    ),
    TourModel("vae-16", "vae", "mlp", "VAE, 16 numbers", {"latent_dim": 16}),
    TourModel("ladder", "vae", "ladder", "hierarchical VAE", {}),
    TourModel("vaegan", "vaegan", "conv", "VAE-GAN, 16 numbers", {"latent_dim": 16}),
    TourModel("gan", "gan", "conv", "GAN", {}),
    TourModel(
        "autoregressive",
        "autoregressive",
        "default",
        "auto-regressive, pixel by pixel",
        {"size": 1, "batch_size": 16},
    ),
    TourModel(
        "diffusion", "diffusion", "default", "diffusion (flow)", {"width": 32, "batch_size": 64}
    ),
    TourModel(
        "latent",
        "diffusion",
        "default",
        "flow within the codes of the VAE, 16 numbers",
        {},
        within="vae-16",
    ),
)
TEXT = "python-docs"
TEXT_MODELS = (
    TourModel("ngram", "autoregressive", "ngram", "counts of 6 characters (n-gram)", {}),
    TourModel("gpt", "autoregressive", "text", "small Transformer", {"size": 1, "batch_size": 16}),
)


def tour(
    out: Path, data: str, seconds: int, seed: int, say: Callable[[str], None]
) -> tuple[Path, list[dict]]:
    """Trains, measures and draws all models; returns the page and the reports.

    seconds: of training for each model. Raises UsageError, DataError and what training raises.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: name a folder")
    plans, text_plans = _plan_tour(data, seconds, seed, say)
    keep_earlier_tour(out, say)
    models = [model for model in MODELS if model.name in plans]
    text_models = [model for model in TEXT_MODELS if model.name in text_plans]
    runs, commands = train_models(models, plans, data, out, say)
    text_runs, text_commands = train_models(text_models, text_plans, TEXT, out, say)
    say("")
    sections = [text_section(text_runs, seconds, seed, out, say)] if text_runs else []
    page, reports = compare(
        runs,
        out / "report.html",
        samples=SAMPLES,
        seed=seed,
        say=say,
        titles=[model.title for model in models],
        head=("fromnoise tour", introduction(runs, seconds, has_text=bool(text_runs))),
        commands=commands + text_commands,
        figures=out / "figures",
        beside=sections,
    )
    say_lines(say, "", summary(reports))
    for section in sections:
        say_lines(say, "", f"{TEXT}, text", summary(section.reports))
        reports = reports + section.reports
    return page, reports


def _plan_tour(
    data: str, seconds: int, seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Plan | dict], dict[str, Plan | dict]]:
    """Plans of the models of the data, and of those of text, which need the text to be there."""
    plans = plan_models(MODELS, data, seconds, seed)
    for note in plans["pca"].dataset.notes:
        say(f"data: {note}")
    if plans["autoregressive"].dataset.spec.dims > MAX_PIXELS:
        say(
            f"without the auto-regressive model: sampling more than {MAX_PIXELS} pixels one by one "
            "takes long"
        )
        del plans["autoregressive"]
    try:
        return plans, plan_models(TEXT_MODELS, TEXT, seconds, seed)
    except DataError as error:
        say(f"without text: {error}")
        return plans, {}


def say_lines(say: Callable[[str], None], *texts: str) -> None:
    """Each line of the texts by itself."""
    for text in texts:
        for line in text.split("\n"):
            say(line)


def keep_earlier_tour(out: Path, say: Callable[[str], None]) -> None:
    """Renames a folder that is not empty. Raises StorageError."""
    if not out.exists() or not any(out.iterdir()):
        return
    kept = next_folder(out.parent, out.name)
    try:
        out.rename(kept)
    except OSError as error:
        raise storage_error(error, out) from error
    say(f"the tour that was in {out} is kept in {kept}")


def plan_models(
    models: Sequence[TourModel], data: str, seconds: int, seed: int
) -> dict[str, Plan | dict]:
    """Plans by name; only the options of a model within another one, which is not trained yet.

    Raises UsageError, DataError.
    """
    plans = {}
    for model in models:
        options = {"minutes": seconds / 60, "seed": seed, "intervals": INTERVALS, **model.options}
        if model.within:
            plans[model.name] = options
        else:
            plans[model.name] = make_plan(model.family, data, model.preset, **options)
    return plans


def train_models(
    models: Sequence[TourModel],
    plans: dict[str, Plan | dict],
    data: str,
    out: Path,
    say: Callable[[str], None],
) -> tuple[list[LoadedRun], list[str]]:
    """The trained models, and the commands that make them again."""
    runs = []
    commands = []
    for model in models:
        plan = plans[model.name]
        if model.within:
            plan = make_plan(model.family, data, None, out / model.within, **plan)
        run = start_run(plan, out / model.name, "fromnoise tour")
        commands.append(exact_command(model, run, data, out))
        runs.append(load_run(run))
        say(f"trained {model.title}")
    return runs, commands


def exact_command(model: TourModel, run: Run, data: str, out: Path) -> str:
    """The command that makes a run again: in steps, since minutes depend on the machine."""
    options = {"seed": run.record.seed, "intervals": INTERVALS, **model.options}
    plan = read_plan(run)
    steps = plan[-1][1]
    if any(total != steps for _, total in plan):
        options["plan"] = format_plan(plan)
    elif steps:
        options["steps"] = steps
    arguments = ["train", model.family, "--data", data]
    arguments += (
        ["--within", str(out / model.within)] if model.within else ["--preset", model.preset]
    )
    for name, value in options.items():
        arguments += [flag(name), str(value)]
    return command_line(arguments)


def text_section(
    runs: list[LoadedRun], seconds: int, seed: int, out: Path, say: Callable[[str], None]
) -> DataSection:
    """The section of the page about the models of text, with figures of the last one."""
    titles = [model.title for model in TEXT_MODELS]
    reports, _ = measured(runs, seed=seed, say=say, titles=titles)
    intro = (
        "Two models of Python's own language reference "
        f"({sizes(runs[0].dataset).removesuffix('.')}), which predict each character from those "
        "before it. One counts; the other is a network, trained for about "
        f"{seconds} seconds. Counts are hard to beat in so little time."
    )
    drawn = gallery.page_figures(
        runs[-1:], out / "figures" / "text", titles[-1:], seed=seed, command=command_line()
    )
    return DataSection("text", "Text", intro, runs, reports, drawn)


def introduction(runs: list[LoadedRun], seconds: int, has_text: bool) -> str:
    """The first paragraph of the page."""
    dataset = runs[0].dataset
    text = (
        f"{len(runs)} models of {dataset.name}, the networks trained for about {seconds} seconds "
        f"each on {len(dataset.split('train')):,} examples and measured on "
        f"{len(dataset.split('test')):,} that they never saw. PCA and the mixture are fitted in "
        "closed form: the baselines that a network has to beat."
    )
    if has_text:
        text += " Two models of text have a section of their own."
    return text
