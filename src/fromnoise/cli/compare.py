"""``compare``: one page about several runs of the same data."""

from pathlib import Path

import click

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
    seed_flag,
)


@fromnoise.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=PATH,
    default=Path("compare.html"),
    metavar="PAGE.html",
    help="[compare.html]",
)
@click.option(
    "--samples",
    metavar="N",
    help="the number of samples to measure, unless the run has a report of so many [10000]",
)
@evaluator_flag
@digest_flag
@seed_flag
@click.option(
    "--zoo/--no-zoo", default=True, help="also show which metric detects which defect [yes]"
)
@add_run_flags(with_checkpoint=False, with_data=False)
def compare(runs, out, samples, evaluator, evaluator_digest, seed, zoo, device, as_json, quiet):
    """Compare runs of the same data on one page: verdicts, intervals, samples, neighbours."""
    from ..studies.comparison import compare as write_page

    def show_progress(line: str) -> None:
        if not quiet:
            print_line(line, as_json=True)

    page, reports = write_page(
        [open_run(run, "last", device) for run in runs],
        out,
        parse_optional_whole(samples, "--samples", 1),
        evaluator,
        parse_whole(seed, "--seed", 0),
        zoo,
        show_progress,
        evaluator_digest=evaluator_digest,
    )
    document = {"page": str(page), "reports": reports}
    print_result(document, as_json, str(page) if quiet else f"the page: {page}")
