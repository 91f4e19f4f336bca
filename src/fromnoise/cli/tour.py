"""``tour``: a small model of every family on one page."""

from pathlib import Path

import click

from .root import (
    PATH,
    fromnoise,
    json_flag,
    parse_whole,
    print_line,
    print_result,
    quiet_flag,
    seed_flag,
)


@fromnoise.command()
@click.option("--out", type=PATH, default=Path("runs/tour"), metavar="DIR", help="[runs/tour]")
@click.option("--data", "data_name", default="digits", metavar="NAME|PATH", help="images [digits]")
@click.option(
    "--seconds", default="12", metavar="S", help="seconds of training for each model [12]"
)
@seed_flag
@json_flag
@quiet_flag
def tour(out, data_name, seconds, seed, as_json, quiet):
    """Train a small model of every family on real digits, measure and draw them on one page."""
    from ..studies.tour import tour as run_tour

    def show_progress(line: str) -> None:
        if not quiet:
            print_line(line, as_json)

    page, reports = run_tour(
        out,
        data_name,
        parse_whole(seconds, "--seconds", 1),
        parse_whole(seed, "--seed", 0),
        say=show_progress,
    )
    print_result({"page": str(page), "reports": reports}, as_json, f"the page: {page}")
