"""``eval``: the metrics of a run."""

import sys
from types import SimpleNamespace

import click

from ..core.output import warn
from ..core.words import unescaped
from .root import (
    PATH,
    add_run_flags,
    digest_flag,
    evaluator_flag,
    fromnoise,
    open_run,
    parse_optional_whole,
    parse_whole,
    print_line,
    print_result,
)


@fromnoise.command("eval")
@click.argument("run", type=PATH)
@click.option(
    "--quick", is_flag=True, help="a first impression: fewer samples, examples and draws of z"
)
@click.option("--samples", metavar="N", help="the number of samples to measure [10000]")
@click.option(
    "-k", default="100", metavar="K", help="draws of z for the importance-weighted bound [100]"
)
@click.option("-n", metavar="N", help="test examples for likelihoods [all]")
@click.option(
    "--ais",
    default="0",
    metavar="N",
    help="test examples for annealed importance sampling of the likelihood (slow) [0]",
)
@evaluator_flag
@digest_flag
@click.option(
    "--seed", default="0", metavar="N", help="of the samples and the noise of the evaluation [0]"
)
@click.option(
    "--figures/--no-figures",
    default=True,
    help="also draw figures into the run; --quick draws none [yes]",
)
@add_run_flags()
def evaluate(**values):
    """Measure a run: samples, likelihood, reconstructions, code. Writes report.json and figures."""
    from ..evaluate.report import evaluate as measure
    from ..show.catalogue import show as draw

    flags = SimpleNamespace(**values)
    loaded = open_run(flags.run, flags.checkpoint, flags.device, data=flags.data)
    seed = parse_whole(flags.seed, "--seed", 0)

    def show_progress(line: str) -> None:
        if not flags.quiet and not flags.as_json:
            print_line(line, as_json=True)

    report = measure(
        loaded,
        parse_whole(flags.k, "-k", 2),
        parse_optional_whole(flags.n, "-n", 1),
        flags.quick,
        seed,
        parse_optional_whole(flags.samples, "--samples", 1),
        flags.evaluator,
        flags.evaluator_digest,
        anneal=parse_whole(flags.ais, "--ais", 0),
        say=show_progress,
        warn=warn,
    )
    if flags.figures and not flags.quick:
        draw(loaded, seed=seed, say=warn)
    if flags.as_json:
        print_result(report, True)
        return
    print_table(report)
    if not flags.quiet:
        name = "report-quick.json" if flags.quick else "report.json"
        print_line(f"written: {flags.run / name}")


def print_table(report: dict) -> None:
    """Prints a report, in colour on a terminal."""
    from ..evaluate.table import plain_table, rich_table

    if not sys.stdout.isatty():
        print(plain_table([report]))
        return
    from rich.console import Console

    Console(file=unescaped(sys.stdout)).print(rich_table([report]))
