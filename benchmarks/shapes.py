"""Text to image: how many pictures show exactly what their captions say, for seen and for never-seen combinations.

Trains a diffusion model with its caption encoder on `shapes`, the last averaged weights, and draws 1,000 pictures for test
captions of each kind. The judge knows the rules of drawing (measures/attributes.py) and no network; beside each share stands
that of the real pictures with the same captions.

    python benchmarks/shapes.py [--minutes 39] [--seed 0] [--pictures 1000] [--guidance 1 2 3] [--steps 32] [--sampler sde] [--spacing time] [--run FOLDER] [--set NAME=VALUE ...]
    (held to 500 held-out pictures, of 2,000, while it trains: --set validation_examples=500)
"""

import torch
from diffusion import arguments, trained

from fromnoise.core.images import image_grid, png_bytes
from fromnoise.evaluate.metrics.captions import SPLITS, share_of
from fromnoise.inference import sample
from fromnoise.measures.attributes import ATTRIBUTES, check


def main() -> None:
    args = arguments(
        __doc__,
        "runs/shapes",
        minutes=39,
        pictures=dict(type=int, default=1000),
        steps=dict(type=int, default=32),
        sampler=dict(default="auto", help="as of `fromnoise sample`"),
        spacing=dict(default="rho", help="the same"),
        guidance=dict(type=float, nargs="*", default=[1.0, 2.0, 3.0]),
    )
    run = trained(args, "shapes")
    dataset = run.dataset
    for split, word in SPLITS.items():
        part = dataset.split(split)
        y = torch.from_numpy(part.y[: args.pictures])
        captions = dataset.caption_codec.decode(y)
        for what, pictures in ((f"guidance {w:g}", drawn(run, y, args, w)) for w in args.guidance):
            tell(f"{word}, {what}", check(pictures, captions))
            target = args.out / f"{word}-{what.replace(' ', '-')}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(png_bytes(image_grid(pictures[:64].transpose(0, 2, 3, 1))))
        tell(f"{word}, real pictures", check(part.x[: args.pictures], captions))


def drawn(run, y: torch.Tensor, args, guidance: float):
    """Pictures for captions y (n, L) as they are stored, uint8 (n, 3, H, W)."""
    options = {"guidance": guidance} | {
        name: getattr(args, name) for name in ("steps", "sampler", "spacing")
    }
    blocks = sample.sample_blocks(run.loaded, len(y), args.seed, labels=y, options=options)
    return run.dataset.to_store(torch.cat(list(blocks)))


def tell(what: str, verdicts: list[dict]) -> None:
    shares = {name: share_of(verdicts, name) for name in ("correct", *ATTRIBUTES)}
    low, high = shares["correct"].interval
    rest = ", ".join(f"{name} {found.value:.1%}" for name, found in list(shares.items())[1:])
    print(
        f"{what}: correct {shares['correct'].value:.1%} (95 %: {low:.1%} to {high:.1%}); {rest}",
        flush=True,
    )


if __name__ == "__main__":
    main()
