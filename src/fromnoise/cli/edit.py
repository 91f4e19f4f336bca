"""``edit``: images changed by a trained model."""

from pathlib import Path

import click

from ..core.errors import UsageError
from .options import loose
from .root import (
    LOOSE,
    PATH,
    checkpoint_flag,
    data_flag,
    device_flag,
    finish,
    fromnoise,
    json_flag,
    opened,
    quiet_flag,
    trust_flags,
    warn,
    whole,
)


@fromnoise.command(context_settings=LOOSE)
@click.argument("run", type=PATH)
@click.option(
    "--fill",
    metavar="PART|FILE",
    help="fill in the left, right, top, bottom or centre, or what is white in a picture; the rest stays",
)
@click.option(
    "--strength",
    metavar="X",
    help="mix with this share of noise and denoise again: above 0 and up to 1",
)
@click.option(
    "--vary",
    metavar="X",
    help="a relative: turn the image's own noise by this share towards other noise",
)
@click.option(
    "--between",
    metavar="N",
    help="N pictures on the way from the first image to the second, from the third to the fourth ...",
)
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    help="a folder of images of your own, instead of the test split",
)
@click.option("-n", metavar="N", help="how many of them [8]")
@click.option("--draws", metavar="N", help="how often each is changed [4]")
@click.option(
    "--label",
    metavar="CLASS",
    help="the class that they are to be, by name or number (conditional models) [their own]",
)
@click.option("--seed", default="0", metavar="N", help="[0]")
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="TARGET",
    help=".png (the given ones on top), or what was made as a folder or .npy [the run's samples folder]",
)
@checkpoint_flag
@data_flag
@device_flag
@trust_flags
@json_flag
@quiet_flag
@click.pass_context
def edit(
    ctx,
    run,
    fill,
    strength,
    vary,
    between,
    images,
    n,
    draws,
    label,
    seed,
    out,
    checkpoint,
    data,
    device,
    as_json,
    quiet,
):
    """Change images: fill parts in, redraw, vary, turn one into another. Options of the sampler (--steps ...) may follow."""
    from ..inference import edit as editing
    from ..inference.edit_files import load_images, save_edits

    asked = {"fill": fill, "strength": strength, "vary": vary, "between": between}
    asked = {name: value for name, value in asked.items() if value is not None}
    if len(asked) != 1:
        raise UsageError(
            "say what to do, one thing at a time: --fill, --strength, --vary or --between"
        )
    ((name, value),) = asked.items()
    loaded = opened(run, checkpoint, device, images is None, data)
    if name == "between" and draws is not None:
        raise UsageError("there is one way between two images: leave --draws out")
    options = loose(loaded.family.Options, ctx.args)
    asked_n, n, seed, draws = (
        n,
        whole(n or "8", "-n", 1),
        whole(seed, "--seed", 0),
        whole(draws or "4", "--draws", 1),
    )
    x, y = load_images(loaded, n, images, label)
    if asked_n is not None and len(x) < n:
        warn(f"there are only {len(x)} images, not the {n} asked for")
    if name == "fill":
        made = editing.complete(loaded, x, fill, y, draws, seed, options)
    elif name == "between":
        pairs = len(x) // 2
        if not pairs:
            raise UsageError("--between needs two images: give -n 2 or more")
        if len(x) % 2:
            warn("the last image has no partner, and is left out")
        x = x[: 2 * pairs].view(pairs, 2, *x.shape[1:])
        made = editing.between(
            loaded,
            x[:, 0],
            x[:, 1],
            whole(value, "--between", 2),
            None if y is None else y[: 2 * pairs : 2],
            seed,
            options,
        )
    else:
        change = editing.redraw if name == "strength" else editing.vary
        made = change(loaded, x, number(value, f"--{name}"), y, draws, seed, options)
    told = {
        name: Path(value).stem if name == "fill" else value,
        "step": loaded.step,
        "seed": seed,
        **options,
    }
    target = out or loaded.run.path / "samples" / (
        "edit-" + "-".join(f"{key}-{part}" for key, part in told.items()) + ".png"
    )
    files = save_edits(loaded, x, made, target, fill)
    loaded.run.record_outputs(files)
    told = f"{len(made)} x {made.shape[1]} images: {target}"
    finish(
        {"run": str(run), "n": len(made), "draws": made.shape[1], "files": [str(f) for f in files]},
        as_json,
        str(target) if quiet else told,
    )


def number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{name} takes a number above 0 and up to 1, not '{text}'") from None
