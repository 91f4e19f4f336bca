"""``reconstruct``: images and their reconstructions."""

import click

from .root import (
    PATH,
    add_run_flags,
    fromnoise,
    open_run,
    parse_whole,
    print_result,
)


@fromnoise.command()
@click.argument("run", type=PATH)
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    help="a folder of your own images, instead of the test split",
)
@click.option("-n", default="16", metavar="N", help="the number of images [16]")
@click.option("-o", "--out", type=PATH, metavar="FILE.png", help="[the run's samples folder]")
@add_run_flags()
def reconstruct(run, images, n, out, checkpoint, data, device, as_json, quiet):
    """Reconstruct images: inputs (top) and reconstructions (below), with the error.

    Without an encoder z is found by optimisation.
    """
    from ..inference.reconstruct import reconstruct as draw

    loaded = open_run(run, checkpoint, device, images is None, data)
    target, mse, count, method = draw(loaded, parse_whole(n, "-n", 1), images, out)
    document = {"run": str(run), "n": count, "mse": mse, "how": method, "file": str(target)}
    line = f"{count} reconstructions ({method}), mean squared error {mse:.5f} per pixel: {target}"
    print_result(document, as_json, str(target) if quiet else line)
