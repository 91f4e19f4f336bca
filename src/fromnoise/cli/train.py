"""``train``: one sub-command for each family, with options from its configuration."""

import inspect
import sys
from typing import TextIO

import click

from ..core.output import Unfailing, warn
from ..core.words import escaped
from .live import Live, best_words, plan_line
from .options import SectionedCommand, SuggestingGroup, given_options, make_options
from .root import PATH, fromnoise, print_result, read_trust, trust_options

SAMPLE_OPTIONS = {
    "image": "-n 64 -o samples.png",
    "vector": "-n 64 -o samples.csv",
    "tokens": "--stream",
}


class Families(SuggestingGroup):
    """``train`` has one sub-command for each family, built from its configuration."""

    def list_commands(self, ctx):
        from ..families import names

        return names()

    def get_command(self, ctx, name):
        from ..families import names

        if name not in (*names(), "latent") and not name.endswith(".py") and "/" not in name:
            return None
        return build_command(name)

    def format_commands(self, ctx, formatter):
        from ..families import names, summary

        rows = [(name, summary(name)) for name in names()]
        with formatter.section("Families (each has its own --help)"):
            formatter.write_dl([*rows, ("FILE.py", "a family file of your own")])


@fromnoise.group("train", cls=Families)
def train_group():
    """Train a model: fromnoise train FAMILY --data DATA --minutes M [options]."""


def build_command(name: str) -> click.Command:
    """The sub-command of a family."""
    from .. import families
    from ..data import data_config
    from ..training.settings import TrainConfig

    family = families.load(name)
    params = run_options(family.PRESETS)
    sections = [("What", {param.name for param in params})]
    models = (("The model", family.Config), ("Training", TrainConfig), ("Data", data_config()))
    for heading, model in models:
        params += make_options(model)
        sections.append((heading, set(model.model_fields)))
    is_bundled = family.path.parent == families.HERE

    def callback(**values):
        train(family.name if is_bundled else str(family.path), family.Config, **values)

    command = SectionedCommand(name, params=params, callback=callback, help=family_help(family))
    command.sections = sections
    command.related = ("Later, of fromnoise sample RUN", make_options(family.Options))
    return command


def run_options(presets: dict) -> list[click.Option]:
    """The options of ``train`` that are the same for all families."""
    return [
        click.Option(
            ["--data", "data_name"],
            metavar="NAME|PATH",
            help="a data set by name (`fromnoise data list`), a folder of images or texts, .txt, "
            ".npy, .npz, .csv, .parquet [digits; those of --within]",
        ),
        click.Option(
            ["--within"],
            type=PATH,
            metavar="RUN",
            help="train on the codes of this run (autoencoder, vae, vaegan, vqvae, classical); the "
            "new run contains both models",
        ),
        click.Option(
            ["--preset"],
            metavar="|".join(presets),
            help="a set of options to start from [selected by the data]",
        ),
        click.Option(
            ["--out"], type=PATH, metavar="DIR", help="the run's folder [runs/DATA-FAMILY-NNNN]"
        ),
        click.Option(
            ["--dry-run"],
            is_flag=True,
            help="print the options, parameters, seconds and memory of the training, without it",
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="print one JSON document; everything else goes to stderr",
        ),
        click.Option(["--quiet"], is_flag=True, help="print only the result"),
        *trust_options(),
    ]


def family_help(family) -> str:
    """The first line of the family's docstring, and its presets."""
    module = sys.modules.get(family.FAMILY.__module__)
    text = (module and inspect.getdoc(module)) or ""
    presets = []
    for name, values in family.PRESETS.items():
        options = ", ".join(f"{key}={value}" for key, value in values.items())
        presets.append(f"  {name}: {options or 'the defaults below'}")
    return text.split("\n")[0] + "\n\n\b\nPresets:\n" + "\n".join(presets)


def train(family, config_model, data_name, within, preset, out, dry_run, as_json, quiet, **values):
    """Trains a model, or estimates the cost (``dry_run``), and prints the result."""
    from ..data import data_config
    from ..training.launch import command_line, start_run
    from ..training.plan import make_plan
    from ..training.settings import TrainConfig

    options = {}
    for model in (config_model, TrainConfig, data_config()):
        options |= given_options(model, values)
    plan = make_plan(family, data_name, preset, within, read_trust(), warn, **options)
    stream = sys.stderr if as_json else sys.stdout
    show_progress = progress_printer(quiet, stream)
    for note in plan.dataset.notes:
        show_progress(f"data: {note}")
    if dry_run:
        print_estimate(plan, as_json, show_progress)
        return
    with Live(quiet, stream) as live:
        run = start_run(plan, out, command_line(), live.on_plan, live.on_event, show_progress)
    last = run.events("interval")[-1]
    document = {"run": str(run.path)}
    document |= {key: last[key] for key in ("step", "validation", "best", "seconds", "health")}
    trust = " --trust-code" if run.record.family_file else ""
    lines = [
        f"done: {run.path}, {describe_scores(last)}",
        f"next: fromnoise eval {run.path}{trust}   fromnoise show {run.path}{trust}   "
        f"fromnoise sample {run.path}{trust} {SAMPLE_OPTIONS[plan.dataset.spec.kind]}",
    ]
    print_result(document, as_json, *([str(run.path)] if quiet else lines))


def print_estimate(plan, as_json: bool, show_progress) -> None:
    """The result of --dry-run: all options, and the cost of the training."""
    from ..training.estimate import estimate_cost

    cost = estimate_cost(plan.trainer(), plan.train, show_progress)
    document = {
        "preset": plan.preset,
        "config": plan.config.model_dump(),
        "train": plan.train.model_dump(),
        "data": plan.dataset.settings,
        **cost,
    }
    settings = plan.options.model_dump() | plan.train.model_dump()
    words = [f"{name}={value}" for name, value in settings.items() if value is not None]
    lines = plan_line(cost | {"preset": plan.preset}).split("\n")
    print_result(document, as_json, *lines, " ".join(words))


def progress_printer(quiet: bool, stream: TextIO):
    """A function that prints a line about the work before training starts; ``quiet``: nothing."""

    def show(line: str) -> None:
        if not quiet:
            print(escaped(line), file=Unfailing(stream), flush=True)

    return show


def describe_scores(last: dict) -> str:
    """The last validation value and the best one, from the last interval event."""
    where = ""
    if last["steps"]:
        where = f" at step {last['step']}{best_words(last) or ', the best'}"
    return f"held-out {last['validation']['value']:.4g}{where}"
