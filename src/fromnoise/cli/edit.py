"""``edit``: changes images with a trained model."""

from pathlib import Path
from types import SimpleNamespace

import click

from ..core.errors import UsageError
from ..core.output import warn
from .options import parse_extra_options
from .root import (
    EXTRA_OPTIONS,
    PATH,
    add_run_flags,
    fromnoise,
    open_run,
    parse_whole,
    print_result,
    seed_flag,
)

EDITS = ("fill", "strength", "vary", "between")


@fromnoise.command(context_settings=EXTRA_OPTIONS)
@click.argument("run", type=PATH)
@click.option(
    "--fill",
    metavar="PART|FILE",
    help="replace one part: left, right, top, bottom, centre, or the white part of an image file",
)
@click.option(
    "--strength",
    metavar="X",
    help="mix with this share of noise and denoise: above 0 and up to 1",
)
@click.option(
    "--vary",
    metavar="X",
    help="a variation: move the image's own noise by this share towards other noise",
)
@click.option(
    "--between",
    metavar="N",
    help="N images from the first image to the second, from the third to the fourth ...",
)
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    help="a folder of your own images, instead of the test split",
)
@click.option("-n", metavar="N", help="the number of images to change [8]")
@click.option("--draws", metavar="N", help="the number of results for each image [4]")
@click.option(
    "--label",
    metavar="CLASS",
    help="the class of the results, by name or number (conditional models) [that of each image]",
)
@seed_flag
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="TARGET",
    help=".png (originals in the first row), or a folder or .npy of the results "
    "[the run's samples folder]",
)
@add_run_flags()
@click.pass_context
def edit(ctx, **values):
    """Change images: replace parts, redraw, vary, or interpolate between two.

    Options of the sampler (--steps ...) may follow.
    """
    edit_images(ctx.args, SimpleNamespace(**values))


def edit_images(args: list[str], flags: SimpleNamespace) -> None:
    from ..inference.edit_files import load_images, save_edits

    name, value = selected_edit(flags)
    loaded = open_run(flags.run, flags.checkpoint, flags.device, flags.images is None, flags.data)
    if name == "between" and flags.draws is not None:
        raise UsageError("--between has one result for two images: leave --draws out")
    options = parse_extra_options(loaded.family.Options, args)
    n = parse_whole(flags.n or "8", "-n", 1)
    seed = parse_whole(flags.seed, "--seed", 0)
    draws = parse_whole(flags.draws or "4", "--draws", 1)
    x, y = load_images(loaded, n, flags.images, flags.label)
    if flags.n is not None and len(x) < n:
        warn(f"there are only {len(x)} images, not the requested {n}")
    if name == "between":
        x, results = interpolate(loaded, x, y, value, seed, options)
    else:
        results = change(loaded, x, y, name, value, draws, seed, options)
    settings = {
        name: Path(value).stem if name == "fill" else value,
        "step": loaded.step,
        "seed": seed,
        **options,
    }
    stem = "-".join(f"{key}-{part}" for key, part in settings.items())
    target = flags.out or loaded.run.path / "samples" / f"edit-{stem}.png"
    files = save_edits(loaded, x, results, target, flags.fill)
    loaded.run.record_outputs(files)
    count, per_image = results.shape[:2]
    document = {
        "run": str(flags.run),
        "n": count,
        "draws": per_image,
        "files": list(map(str, files)),
    }
    line = str(target) if flags.quiet else f"{count} x {per_image} images: {target}"
    print_result(document, flags.as_json, line)


def selected_edit(flags: SimpleNamespace) -> tuple[str, str]:
    """The name and the value of the one edit that was requested. Raises UsageError."""
    edits = [(name, getattr(flags, name)) for name in EDITS if getattr(flags, name) is not None]
    if len(edits) != 1:
        raise UsageError("give exactly one of --fill, --strength, --vary and --between")
    return edits[0]


def interpolate(loaded, x, y, value: str, seed: int, options: dict):
    """The pairs of images (pairs, 2, *shape), and the images between them."""
    from ..inference.edit import Editor

    pairs = len(x) // 2
    if not pairs:
        raise UsageError("--between needs two images: give -n 2 or more")
    if len(x) % 2:
        warn("the last image has no partner, and is left out")
    x = x[: 2 * pairs].view(pairs, 2, *x.shape[1:])
    steps = parse_whole(value, "--between", 2)
    labels = None if y is None else y[: 2 * pairs : 2]
    return x, Editor(loaded, labels, 1, seed, options).between(x[:, 0], x[:, 1], steps)


def change(loaded, x, y, name: str, value: str, draws: int, seed: int, options: dict):
    """The results of --fill, --strength or --vary, (n, draws, *shape)."""
    from ..inference.edit import Editor

    editor = Editor(loaded, y, draws, seed, options)
    if name == "fill":
        return editor.complete(x, value)
    apply = editor.redraw if name == "strength" else editor.vary
    return apply(x, parse_share(value, f"--{name}"))


def parse_share(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{name} takes a number above 0 and up to 1, not '{text}'") from None
