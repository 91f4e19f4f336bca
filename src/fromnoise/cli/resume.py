"""``resume``: continues a stopped run, or extends a finished one."""

import sys

import click

from ..core.output import warn
from .live import Live
from .options import given_options, parse_extra_options
from .root import (
    EXTRA_OPTIONS,
    PATH,
    add_trust_flags,
    fromnoise,
    json_flag,
    print_result,
    quiet_flag,
    read_trust,
)
from .train import describe_scores, progress_printer


@fromnoise.command(context_settings=EXTRA_OPTIONS)
@click.argument("run", type=PATH)
@click.option("--minutes", help="additional minutes of training")
@click.option("--epochs", help="additional passes over the data")
@click.option("--steps", help="additional steps")
@click.option("--workers", help="threads that prepare batches in advance")
@click.option("--data", help="the new location of the data, if they moved")
@add_trust_flags
@json_flag
@quiet_flag
@click.pass_context
def resume(ctx, run, minutes, epochs, steps, workers, data, as_json, quiet):
    """Continue a stopped run, or train a finished one further.

    A stopped run that is continued ends with exactly the result of a run without the stop.

    --minutes, --epochs and --steps are added to what is done: `--steps 20` after 400 steps ends at
    step 420.
    """
    from .. import families
    from ..runs.directory import Run
    from ..training.plan import option_models
    from ..training.resume import resume_run
    from ..training.settings import TrainConfig

    opened = Run(run)
    values = {"minutes": minutes, "epochs": epochs, "steps": steps, "workers": workers}
    changes = given_options(TrainConfig, values)
    if data:
        changes["data"] = data
    if ctx.args:  # other options of the training: accepted if they have the value of the run
        family = families.of_run(opened.info, read_trust(), str(run))
        changes |= parse_extra_options(option_models(family), ctx.args)
    stream = sys.stderr if as_json else sys.stdout
    with Live(quiet, stream) as live:
        resumed = resume_run(
            opened,
            changes,
            live.on_plan,
            live.on_event,
            warn,
            progress_printer(quiet, stream),
            read_trust(),
        )
    last = resumed.events("interval")[-1]
    document = {"run": str(run)} | {key: last[key] for key in ("step", "validation", "best")}
    print_result(document, as_json, str(run) if quiet else f"done: {run}, {describe_scores(last)}")
