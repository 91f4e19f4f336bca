"""Draws the images of ``shapes`` when they are indexed, from a few numbers each.

Shapes are drawn by signed distance: coverage = 1/2 - distance / softness, clipped, is antialiasing.
"""

import numpy as np

SIDE = 32  # pixels; all lengths below are at this side, and grow with it
GROUND = (240, 240, 240)
COLOURS = {
    "red": (215, 40, 40),
    "green": (35, 155, 65),
    "blue": (45, 85, 225),
    "yellow": (240, 185, 20),
    "purple": (155, 50, 185),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": (2.8, 3.2), "large": (4.7, 5.3)}  # range of r: a shape's area is pi r^2

# Extents of a shape with r = 1 from its centre of mass: left = right, up, down.
SQUARE = np.sqrt(np.pi) / 2  # half the side
TRIANGLE = np.sqrt(2 * np.pi)  # base and height
ARM = np.sqrt(np.pi / 5) / 2  # half the width of a cross's arm, which is three times as long
EXTENTS = np.array(
    [[1, 1, 1], [SQUARE] * 3, [TRIANGLE / 2, TRIANGLE * 2 / 3, TRIANGLE / 3], [3 * ARM] * 3]
)
CHUNK = 1024  # images that are drawn at once


def distance(shape: int, u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Signed distance, negative inside, to the edge of a shape of size r; v points down.

    Its centre of mass is at u = v = 0.
    """
    if shape == 0:
        return np.sqrt(u * u + v * v) - r
    u = np.abs(u)
    v_abs = np.abs(v)
    if shape == 1:
        return np.maximum(u, v_abs) - SQUARE * r
    if shape == 2:  # the side falls 2 for each 1 that it goes out
        side = (2 * u - v - TRIANGLE * 2 / 3 * r) / np.float32(np.sqrt(5))
        return np.maximum(v - TRIANGLE / 3 * r, side)
    upright = np.maximum(u, v_abs - 2 * ARM * r)
    level = np.maximum(u - 2 * ARM * r, v_abs)
    return np.minimum(upright, level) - ARM * r


def pixel_coverage(
    shape: np.ndarray, x: np.ndarray, y: np.ndarray, r: np.ndarray, side: int, soft: float = 1.0
) -> np.ndarray:
    """Share of each pixel that a shape fills: float32 (n, side, side) in [0, 1].

    shape, x, y, r: kind, place and size (n,), in pixels; soft: pixels from empty to full across an
    edge.
    """
    middle = np.arange(side, dtype=np.float32) + 0.5
    coverage = np.zeros((len(shape), side, side), np.float32)
    for kind in range(len(SHAPES)):
        rows = np.flatnonzero(shape == kind)
        x_, y_, r_ = (value[rows, None, None].astype(np.float32) for value in (x, y, r))
        inside = distance(kind, middle[None, None, :] - x_, middle[None, :, None] - y_, r_)
        coverage[rows] = np.clip(0.5 - inside / np.float32(soft), 0, 1)
    return coverage


class DrawnImages:
    """Images drawn when they are indexed, as a uint8 array of shape (N, 3, side, side).

    colour, shape  (N, 2) which; -1 in the second place if there is one shape
    x, y, r        (N, 2) place and size at side 32
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        colour: np.ndarray,
        shape: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        r: np.ndarray,
        side: int,
    ):
        self.colour = colour
        self.shapes = shape
        self.x = x
        self.y = y
        self.r = r
        self.side = side
        self.shape = (len(colour), 3, side, side)

    def __len__(self) -> int:
        return len(self.colour)

    def __getitem__(self, index) -> np.ndarray:
        rows = np.arange(len(self))[index]
        flat = rows.reshape(-1)
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        for start in range(0, len(flat), CHUNK):
            images[start : start + CHUNK] = self._draw(flat[start : start + CHUNK])
        return images.reshape(*rows.shape, *self.shape[1:])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def _draw(self, rows: np.ndarray) -> np.ndarray:
        unit = self.side / SIDE
        ground = np.float32(GROUND)
        colours = np.float32(list(COLOURS.values()))
        images = np.broadcast_to(ground[:, None, None], (len(rows), *self.shape[1:])).copy()
        for place in range(2):
            alpha = pixel_coverage(
                self.shapes[rows, place],
                self.x[rows, place] * unit,
                self.y[rows, place] * unit,
                self.r[rows, place] * unit,
                self.side,
            )
            # (n, 3); extents do not meet: no occlusion
            paint = colours[self.colour[rows, place]] - ground
            for channel in range(3):
                images[:, channel] += alpha * paint[:, channel, None, None]
        return np.rint(images).astype(np.uint8)
