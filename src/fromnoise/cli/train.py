"""``train`` and ``resume``: one sub-command for each family, its flags made from its configuration."""

import sys

import click

from ..core.output import Unfailing
from ..core.words import escaped
from .live import Live, best_words, plan_line
from .options import SectionedCommand, SuggestingGroup, flags_of, given, loose
from .root import (
    LOOSE,
    PATH,
    finish,
    fromnoise,
    json_flag,
    quiet_flag,
    trust_flags,
    trust_options,
    trusted,
    warn,
)


class Families(SuggestingGroup):
    """``train`` has one sub-command for each family, made from its configuration."""

    def list_commands(self, ctx):
        from ..families import names

        return names()

    def get_command(self, ctx, name):
        from ..families import names

        if name not in (*names(), "latent") and not name.endswith(".py") and "/" not in name:
            return None
        return train_command(name)

    def format_commands(self, ctx, formatter):
        from ..families import names, summary

        with formatter.section("Families (each has its own --help)"):
            formatter.write_dl(
                [(name, summary(name)) for name in names()]
                + [("FILE.py", "a family file of your own")]
            )


@fromnoise.group("train", cls=Families)
def train_group():
    """Train a model: fromnoise train FAMILY --data DATA --minutes M [options]."""


def train_command(name: str) -> click.Command:
    from .. import families
    from ..data.config import DataConfig
    from ..training.settings import TrainConfig

    family = families.load(name)
    params = [
        click.Option(
            ["--data", "data_name"],
            metavar="NAME|PATH",
            help="a known data set (`fromnoise data list`), a folder of images or texts, .txt, .npy, .npz, .csv, .parquet [digits; those of --within]",
        ),
        click.Option(
            ["--within"],
            type=PATH,
            metavar="RUN",
            help="train on the codes of this run (autoencoder, vae, vaegan, vqvae, classical); the new run holds both models",
        ),
        click.Option(
            ["--preset"],
            metavar="|".join(family.PRESETS),
            help="a set of options to start from; chosen by the data when left out",
        ),
        click.Option(
            ["--out"], type=PATH, metavar="DIR", help="the run's folder [runs/DATA-FAMILY-NNNN]"
        ),
        click.Option(
            ["--dry-run"],
            is_flag=True,
            help="print the resolved options, parameters, seconds and memory, then stop",
        ),
        click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="print one JSON document; everything else goes to stderr",
        ),
        click.Option(["--quiet"], is_flag=True, help="print only the result"),
        *trust_options(),
    ]
    sections = [
        (
            "What",
            {
                "data_name",
                "within",
                "preset",
                "out",
                "dry_run",
                "as_json",
                "quiet",
                "trust_code",
                "trust_file",
            },
        )
    ]
    for heading, model in (
        ("The model", family.Config),
        ("Training", TrainConfig),
        ("Data", DataConfig),
    ):
        params += flags_of(model)
        sections.append((heading, set(model.model_fields)))

    def callback(**values):
        train(
            family.name if family.path.parent == families.HERE else str(family.path),
            family.Config,
            **values,
        )

    command = SectionedCommand(name, params=params, callback=callback, help=families_help(family))
    command.sections, command.elsewhere = (
        sections,
        ("Later, of fromnoise sample RUN", flags_of(family.Options)),
    )
    return command


def families_help(family) -> str:
    import inspect

    text = (
        inspect.getdoc(sys.modules[family.FAMILY.__module__]) or ""
        if family.FAMILY.__module__ in sys.modules
        else ""
    )
    presets = "\n".join(
        f"  {name}: " + (", ".join(f"{k}={v}" for k, v in values.items()) or "the defaults below")
        for name, values in family.PRESETS.items()
    )
    return f"{text.split(chr(10))[0]}\n\n\b\nPresets:\n{presets}"


def train(family, config_model, data_name, within, preset, out, dry_run, as_json, quiet, **values):
    from ..data.config import DataConfig
    from ..training.estimate import estimate_cost
    from ..training.launch import command_line, start_run
    from ..training.plan import make_plan
    from ..training.settings import TrainConfig

    options = {}
    for model in (config_model, TrainConfig, DataConfig):
        options |= given(model, values)
    plan = make_plan(family, data_name, preset, within, trusted(), warn, **options)
    stream = sys.stderr if as_json else sys.stdout
    if not quiet:
        for note in plan.dataset.notes:
            print(escaped(f"data: {note}"), file=Unfailing(stream))
    if dry_run:
        numbers = estimate_cost(plan.trainer(), plan.train, progress(quiet, stream))
        document = {
            "preset": plan.preset,
            "config": plan.config.model_dump(),
            "train": plan.train.model_dump(),
            "data": plan.dataset.settings,
            **numbers,
        }
        settings = " ".join(
            f"{k}={v}"
            for k, v in (plan.options.model_dump() | plan.train.model_dump()).items()
            if v is not None
        )
        finish(
            document, as_json, *plan_line(numbers | {"preset": plan.preset}).split("\n"), settings
        )
        return
    with Live(quiet, stream) as live:
        run = start_run(
            plan, out, command_line(), live.on_plan, live.on_event, progress(quiet, stream)
        )
    last = run.events("interval")[-1]
    draw = {
        "image": "-n 64 -o samples.png",
        "vector": "-n 64 -o samples.csv",
        "tokens": "--stream",
    }[plan.dataset.spec.kind]
    finish(
        {
            "run": str(run.path),
            "step": last["step"],
            "validation": last["validation"],
            "best": last["best"],
            "seconds": last["seconds"],
            "health": last["health"],
        },
        as_json,
        *(
            [str(run.path)]
            if quiet
            else [
                f"done: {run.path}, {scores(last)}",
                f"next: fromnoise eval {run.path}   fromnoise show {run.path}   fromnoise sample {run.path} {draw}",
            ]
        ),
    )


@fromnoise.command(context_settings=LOOSE)
@click.argument("run", type=PATH)
@click.option("--minutes", help="train so many minutes more")
@click.option("--epochs", help="train so many passes over the data more")
@click.option("--steps", help="train so many steps more")
@click.option("--workers", help="threads that prepare batches ahead")
@click.option("--data", help="where the data are now, if they moved")
@trust_flags
@json_flag
@quiet_flag
@click.pass_context
def resume(ctx, run, minutes, epochs, steps, workers, data, as_json, quiet):
    """Continue a stopped run, or train a finished one further.

    A stopped run that is continued ends with exactly the result of a run without the stop.

    --minutes, --epochs and --steps say how much is added: `--steps 20` after 400 steps ends at step 420.
    """
    from .. import families
    from ..runs.directory import Run
    from ..training.plan import option_models
    from ..training.resume import resume_run
    from ..training.settings import TrainConfig

    opened = Run(run)
    changes = given(
        TrainConfig, {"minutes": minutes, "epochs": epochs, "steps": steps, "workers": workers}
    )
    changes |= {"data": data} if data else {}
    if ctx.args:  # any other option of the training: accepted if it says what the run has anyway
        changes |= loose(
            option_models(families.of_run(opened.info, trusted(), str(run))), ctx.args
        )
    stream = sys.stderr if as_json else sys.stdout
    with Live(quiet, stream) as live:
        done = resume_run(
            opened, changes, live.on_plan, live.on_event, warn, progress(quiet, stream), trusted()
        )
    last = done.events("interval")[-1]
    document = {
        "run": str(run),
        "step": last["step"],
        "validation": last["validation"],
        "best": last["best"],
    }
    finish(document, as_json, str(run) if quiet else f"done: {run}, {scores(last)}")


def progress(quiet: bool, stream):
    """Prints what is being timed before a training has its plan."""

    def show(line: str) -> None:
        if not quiet:
            print(escaped(line), file=Unfailing(stream), flush=True)

    return show


def scores(last: dict) -> str:
    """The last held-out value, and the best one: never one without the other."""
    where = f" at step {last['step']}{best_words(last) or ', the best'}" if last["steps"] else ""
    return f"held-out {last['validation']['value']:.4g}{where}"
