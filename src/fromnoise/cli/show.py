"""``show``: figures of a run."""

import click

from ..core.errors import UsageError
from ..core.output import warn
from ..show.names import figure_names
from .root import (
    PATH,
    add_run_flags,
    fromnoise,
    open_run,
    parse_whole,
    print_result,
    seed_flag,
)


class FigureCommand(click.Command):
    """A command whose help lists the figures by group."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_dl(
                [(group, " ".join(names)) for group, names in figure_names().items()]
            )


@fromnoise.command(cls=FigureCommand)
@click.argument("run", type=PATH)
@click.argument("names", nargs=-1)
@click.option(
    "--dims",
    default="0,1",
    metavar="I,J",
    help="the two latent dimensions of scatter and grid [0,1]",
)
@click.option(
    "--sampled", is_flag=True, help="scatter: draw a sample of z instead of the posterior mean"
)
@seed_flag
@click.option(
    "--beside",
    type=PATH,
    metavar="RUN",
    help="a second model. denoise: a plain autoencoder for the middle row; planes: any other model; "
    "window: another model of the text",
)
@click.option("-o", "--out", type=PATH, metavar="DIR", help="[the run's figures folder]")
@add_run_flags()
def show(run, names, dims, sampled, seed, beside, out, checkpoint, data, device, as_json, quiet):
    """Draw figures as PNG and SVG. Without names, all that the model can have."""
    from ..show.catalogue import show as draw
    from ..training.launch import command_line

    loaded = open_run(run, checkpoint, device, data=data)
    pair = dims.split(",")
    if len(pair) != 2:
        raise UsageError(f"--dims takes two numbers such as 0,1, not '{dims}'")
    plain = None if beside is None else open_run(beside, "last", device)
    files = draw(
        loaded,
        list(names) or None,
        seed=parse_whole(seed, "--seed", 0),
        dims=tuple(parse_whole(dim, "--dims", 0) for dim in pair),
        sampled=sampled,
        plain=plain,
        command=command_line(),
        out=out,
        say=warn,
    )
    images = [str(file) for file in files if file.suffix == ".png"]
    print_result({"run": str(run), "files": list(map(str, files))}, as_json, *images)
