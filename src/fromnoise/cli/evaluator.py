"""``evaluator``: feature networks for the metrics of samples."""

from pathlib import Path

import click

from ..core.errors import UsageError
from .data import load_with_options
from .options import SuggestingGroup
from .root import (
    EXTRA_OPTIONS,
    PATH,
    fromnoise,
    json_flag,
    parse_whole,
    print_line,
    print_result,
    seed_flag,
)


@fromnoise.group("evaluator", cls=SuggestingGroup)
def evaluator_group():
    """Feature networks that measure samples: train one on your own data, or describe one."""


@evaluator_group.command("fit", context_settings=EXTRA_OPTIONS)
@click.argument("data_name", metavar="DATA")
@click.option("-o", "--out", type=PATH, metavar="FILE", help="[NAME-evaluator.safetensors]")
@click.option("--steps", default="2000", metavar="N", help="[2000]")
@click.option("--dims", default="64", metavar="N", help="features of each example [64]")
@click.option("--width", default="16", metavar="N", help="channels of the first layer [16]")
@seed_flag
@json_flag
@click.pass_context
def evaluator_fit(ctx, data_name, out, steps, dims, width, seed, as_json):
    """Train an evaluator on a data set: on its classes, or on reconstruction if it has none.

    Options of the data (--resolution 64 ...) may follow.
    """
    from ..measures import evaluator

    dataset = load_with_options(data_name, ctx.args)
    target = out or Path(f"{Path(data_name).stem}-evaluator.safetensors")
    if target.exists():
        raise UsageError(
            f"{target} exists already and is never overwritten: choose another file with -o"
        )
    for note in dataset.notes:
        print_line(f"data: {note}", as_json)
    network = evaluator.fit(
        dataset,
        parse_whole(steps, "--steps", 10),
        parse_whole(dims, "--dims", 2),
        parse_whole(width, "--width", 1),
        parse_whole(seed, "--seed", 0),
    )
    evaluator.write(network, target)
    describe_evaluator(target, as_json)


@evaluator_group.command("info")
@click.argument("file", type=PATH)
@json_flag
def evaluator_info(file, as_json):
    """Describe an evaluator: its data, and its accuracy on validation data."""
    describe_evaluator(file, as_json)


def describe_evaluator(file: Path, as_json: bool) -> None:
    from ..measures.evaluator import load

    evaluator = load(file)
    about = evaluator.about
    shape = "x".join(map(str, about["shape"]))
    if about["classes"]:
        accuracy = about["validation_accuracy"]
        task = f"{about['classes']} classes, validation accuracy {accuracy:.4f}"
    else:
        task = f"reconstruction, validation mean squared error {about['validation_mse']:.5f}"
    line = (
        f"{file}: evaluator {evaluator.name} of {about['data']} {shape}, "
        f"{about['dims']} features, {task}"
    )
    print_result({"file": str(file), "name": evaluator.name, **about}, as_json, line)
