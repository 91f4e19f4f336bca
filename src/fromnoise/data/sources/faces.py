"""``faces``: cartoon faces drawn from six exactly known, independent factors, at any resolution.

Nothing is stored or downloaded. Face i is a function of (split seed, i) alone, so it is the same face
at every resolution, and the factors that a latent space should represent are known exactly. Shapes
are painted back to front by their signed distance: coverage = 1/2 - distance / pixel, clipped, is
antialiasing.
"""

import numpy as np

from ...core.limits import check_memory
from ...core.rng import Rng
from ..config import Grey, ImageOptions, Resolution, SplitShares
from ..dataset import Dataset, Split
from ..image_dataset import image_dataset
from ..source import Source
from ..splits import SHARE

NAMES = {
    "faces": "10,000 cartoon faces drawn from 6 known factors, 32x32 colour, 4 hair colours (made here)"
}
COUNT = 10_000
FACTORS = ("head_size", "hair_colour", "smile_size", "skin_tone", "eye_size", "background")
HAIR = ("black", "brown", "red", "blond")  # class k: hair_colour in [k/4, (k+1)/4)

# Colour ramps: knots in [0, 1] and RGB there. No two factor values share a colour, so each can be read back.
HAIR_RAMP = (
    (0, 0.125, 0.375, 0.625, 0.875, 1),
    ((12, 12, 22), (34, 28, 32), (110, 62, 28), (196, 70, 28), (240, 200, 92), (252, 232, 160)),
)
SKIN_RAMP = ((0, 0.5, 1), ((122, 78, 52), (206, 150, 110), (252, 222, 196)))
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue
BACK_RAMP = ((0, 1), ((58, 104, 140), (222, 242, 250)))


class Options(SplitShares, ImageOptions, Grey, Resolution):
    """Of the faces."""


def load(name: str, options: Options) -> Dataset:
    """8,000 / 1,000 / 1,000 faces, or other shares of the 10,000."""
    check_memory(
        COUNT * 3 * (options.resolution or 32) ** 2,
        f"{COUNT:,} faces at --resolution {options.resolution}",
        "choose a smaller one",
    )
    factors = draw_factors(range(COUNT), options.split_seed)
    x = draw(factors, options.resolution or 32)
    if options.grey:
        grey = np.tensordot(x, np.float32(LUMINANCE), (1, 0))
        x = np.rint(grey).astype(np.uint8)[:, None]
    y = np.minimum(factors[:, 1] * len(HAIR), len(HAIR) - 1).astype(np.int64)
    n_test = max(1, round(COUNT * (options.test or SHARE)))
    n_validation = max(1, round(COUNT * (options.validation or SHARE)))
    ends = {"train": COUNT - n_validation - n_test, "validation": COUNT - n_test, "test": COUNT}
    splits = {}
    start = 0
    for part, end in ends.items():
        splits[part] = Split(x[start:end], y[start:end], 256, factors[start:end])
        start = end
    return image_dataset(name, splits, HAIR, options, factor_names=FACTORS)


def draw_factors(rows, seed: int = 0) -> np.ndarray:
    """Factors of the faces with those indices: float32 (len(rows), 6), uniform in [0, 1)."""
    return Rng(seed).at("faces").per_row(rows).uniform("factors", (len(rows), len(FACTORS))).numpy()


def draw(factors: np.ndarray, resolution: int = 32) -> np.ndarray:
    """Paints faces: factors (N, 6) in [0, 1], in the order of FACTORS -> uint8 (N, 3, H, W)."""
    factors = np.asarray(factors, np.float32)
    out = np.empty((len(factors), 3, resolution, resolution), np.uint8)
    step = max(1, 2**16 // resolution**2)  # faces at once: a layer stays in the cache
    for start in range(0, len(factors), step):
        out[start : start + step] = _paint(factors[start : start + step], resolution)
    return out


class Canvas:
    """Faces on a grid of pixels, with the coordinates of the faces.

    Their origin lies between eyes and mouth, y points down, and the head is about 1.2 wide at any
    size. All arrays broadcast to (N, H, W).
    """

    def __init__(self, background: np.ndarray, scale: np.ndarray, resolution: int):
        self.image = np.empty((len(background), 3, resolution, resolution), np.float32)
        self.image[:] = background[:, :, None, None]
        self.scale = scale
        self.centres = (np.arange(resolution, dtype=np.float32) + 0.5) * (2 / resolution) - 1
        self.x = self.centres[None, None, :] / scale
        self.y = (self.centres[None, :, None] - 0.02) / scale
        self.side = np.abs(self.x)  # faces are symmetric: one eye, cheek and ear serve for two
        self.pixel = 2 / resolution / scale

    def paint(self, colour, distance: np.ndarray, opacity=1.0) -> None:
        """Lays colour, (3,) or (N, 3), over the pixels at a negative signed distance."""
        cover = np.clip(0.5 - distance / self.pixel, 0, 1) * opacity
        for channel, value in enumerate(np.float32(colour).reshape(-1, 3).T):
            self.image[:, channel] += cover * (value[:, None, None] - self.image[:, channel])


def _paint(factors: np.ndarray, resolution: int) -> np.ndarray:
    head, _, smile, _, eye, _ = (f[:, None, None] for f in factors.T)  # each (N, 1, 1)
    hair_colour = _ramp(HAIR_RAMP, factors[:, 1])
    skin_colour = _ramp(SKIN_RAMP, factors[:, 3])
    background = _ramp(BACK_RAMP, factors[:, 5])
    canvas = Canvas(background, 0.78 + 0.34 * head, resolution)
    _paint_head(canvas, hair_colour, skin_colour)
    _paint_eyes_and_nose(canvas, eye, skin_colour)
    _paint_mouth(canvas, smile)
    return np.rint(canvas.image).astype(np.uint8)


def _paint_head(canvas: Canvas, hair_colour: np.ndarray, skin_colour: np.ndarray) -> None:
    x = canvas.x
    y = canvas.y
    side = canvas.side
    # Shoulders are measured outside the head: they do not grow with it.
    neck = _ellipse(x, y - 0.75, 0.2, 0.34)
    shoulders_y = canvas.centres[None, :, None] - 1.25
    body = _ellipse(x * canvas.scale, shoulders_y, 0.72, 0.5) / canvas.scale
    skull = _ellipse(x, y + 0.12, 0.68, 0.72)
    face = _ellipse(x, y - 0.05, 0.56, 0.64)
    brow_line = _ellipse(x + 0.22, y - 0.28, 0.8, 0.66)  # off centre: hair is parted on one side
    back_hair = np.maximum(_ellipse(x, y - 0.12, 0.68, 0.6), y - 0.42)

    canvas.paint(hair_colour, np.minimum(skull, back_hair))
    canvas.paint(skin_colour * 0.84, neck)
    canvas.paint((64, 142, 122), body)
    canvas.paint(skin_colour * 0.94, _ellipse(side - 0.58, y - 0.08, 0.1, 0.14))
    canvas.paint(skin_colour, face)
    canvas.paint((232, 104, 104), _ellipse(side - 0.36, y - 0.3, 0.12, 0.08), 0.35)
    canvas.paint(hair_colour, np.maximum(np.maximum(skull, -brow_line), y + 0.02))


def _paint_eyes_and_nose(canvas: Canvas, eye: np.ndarray, skin_colour: np.ndarray) -> None:
    y = canvas.y
    side = canvas.side
    radius = 0.1 + 0.085 * eye
    canvas.paint((255, 255, 255), _ellipse(side - 0.235, y - 0.08, radius, radius * 1.15))
    canvas.paint((28, 30, 44), _ellipse(side - 0.235, y - 0.1, radius * 0.62, radius * 0.74))
    canvas.paint((255, 255, 255), _ellipse(side - 0.235, y - 0.055, radius * 0.2, radius * 0.2))
    canvas.paint(skin_colour * 0.78, _ellipse(canvas.x, y - 0.24, 0.045, 0.05))


def _paint_mouth(canvas: Canvas, smile: np.ndarray) -> None:
    """The mouth lies between two parabolas through its corners; a bigger smile is wider and deeper,
    and it opens."""
    x = canvas.x
    y = canvas.y
    width = 0.12 + 0.23 * smile
    deep = 0.05 + 0.2 * smile
    bow = 1 - (x / width) ** 2
    lift = 0.43 - 0.06 * smile
    slope = np.sqrt(1 + (2 * deep * x / width**2) ** 2)
    upper = lift + 0.3 * deep * bow - 0.02
    lower = lift + deep * bow + 0.02
    mouth = np.maximum(np.maximum(upper - y, y - lower) / slope, canvas.side - width)
    teeth = np.maximum(mouth + 0.02, y - upper - 0.35 * deep)
    canvas.paint((138, 30, 42), mouth)
    canvas.paint((255, 255, 255), teeth, np.clip(smile * 3 - 1, 0, 1))


def _ellipse(x, y, a, b) -> np.ndarray:
    """Signed distance to an axis-aligned ellipse about the origin, to first order near its edge."""
    p = (x / a) ** 2
    q = (y / b) ** 2
    inner = np.sqrt(p + q)
    return (inner - 1) * inner / np.sqrt(p / a**2 + q / b**2 + 1e-12)  # f / |f'| with f = inner - 1


def _ramp(ramp, t: np.ndarray) -> np.ndarray:
    """Colours (N, 3) at t (N,) on a piecewise linear ramp."""
    knots, colours = ramp
    return np.stack([np.interp(t, knots, channel) for channel in zip(*colours)], 1).astype(
        np.float32
    )


SOURCE = Source(load, Options, NAMES, place=20)
