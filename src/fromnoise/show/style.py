"""The look of every figure, and its way to disk.

Figures are laid out in pixels from the top left corner and written with two device pixels for each, so that
a pixel of a small image covers a whole number of device pixels. matplotlib is used through its objects; its
settings are global all the same, hence ``drawing()``: one figure at a time, settings put back afterwards.
"""

import io
import textwrap
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core.files import canonical_json, storage_error, write_atomic

INK, SOFT, FAINT, PAPER = "#1d2129", "#5b6270", "#e3e6eb", "#ffffff"
REAL, MODEL, ACCENT, REFUSED = "#5b6270", "#d9480f", "#1f6fd1", "#8f1d44"
# ten classes: hue and lightness differ, and a glyph always says the same (colour alone is never enough)
CLASSES = (
    "#1f6fd1",
    "#e8590c",
    "#2f9e44",
    "#c92a2a",
    "#8646c4",
    "#8a5a2b",
    "#e64980",
    "#343a40",
    "#a68000",
    "#1098ad",
)
WIDTH = 840  # pixels between the margins: what a README shows
SCALE = 2  # device pixels for each pixel of the layout
MARGIN = 24
SETTINGS = {
    "svg.hashsalt": "fromnoise",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": "#9aa1ad",
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.linewidth": 0.8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
}
_LOCK = threading.RLock()


@contextmanager
def drawing():
    """Our settings of matplotlib, for this thread alone."""
    with _LOCK, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # a matplotlibrc of the user's changes nothing
        matplotlib.rcParams.update(SETTINGS)
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def plain(text, width: int = 200) -> str:
    """A name or command from outside, fit for one line: no control characters, not endless."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-width // 2 :]}"


@dataclass
class Drawing:
    """A finished figure. numbers: what is plotted; alt: the figure in one sentence, for those who cannot see it.

    more: further files by their ending, such as the film of which the figure shows some moments.
    """

    figure: Figure
    title: str
    numbers: dict
    alt: str
    caption: str
    more: dict[str, bytes] = field(default_factory=dict)


class Sheet:
    """Title, note, a body of width x height pixels and the caption; what is drawn goes onto the body."""

    def __init__(
        self, title: str, note: str, caption: list[str], height: float, width: float = WIDTH
    ):
        self.title, self.note, self.caption = title, note, caption
        notes = textwrap.wrap(note, int(width / 6.6))
        lines = [
            line
            for text in caption
            for line in textwrap.wrap(text, int(width / 6.15), subsequent_indent="    ")
        ]
        self.left, self.top = MARGIN, MARGIN + 20 + 15 * len(notes) + 10
        self.width = width + 2 * MARGIN
        self.height = self.top + height + 16 + 12 * len(lines) + 14
        self.figure = Figure(figsize=(self.width / 100, self.height / 100), dpi=100)
        self.text(0, MARGIN - self.top + 2, title, size=12, weight="bold")
        for i, line in enumerate(notes):
            self.text(0, MARGIN - self.top + 22 + 15 * i, line, size=8.5, color=SOFT)
        for i, line in enumerate(lines):
            self.text(
                0, height + 18 + 12 * i, line, size=7, color="#69707d", family="DejaVu Sans Mono"
            )

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame has these pixels of the body."""
        left, bottom = self.left + left, self.height - self.top - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(
        self, left: float, top: float, text: str, size: float = 8.5, color: str = INK, **more
    ) -> None:
        x, y = (self.left + left) / self.width, 1 - (self.top + top) / self.height
        self.figure.text(
            x,
            y,
            text,
            fontsize=size,
            color=color,
            parse_math=False,
            **({"ha": "left", "va": "top"} | more),
        )

    def picture(
        self, image: np.ndarray, left: float, top: float, width: float, height: float
    ) -> Axes:
        """A uint8 image (H, W[, 3]) over these pixels of the body, without axes."""
        axes = self.axes(left, top, width, height)
        axes.set_axis_off()
        show_image(axes, image)
        return axes

    def done(self, numbers: dict, alt: str) -> Drawing:
        return Drawing(self.figure, self.title, numbers, alt, "\n".join(self.caption))


def show_image(axes: Axes, image: np.ndarray, extent=None, **more) -> None:
    """An image without blur where it is enlarged; it fills the axes."""
    axes.imshow(
        image,
        cmap="gray",
        vmin=0,
        vmax=255,
        aspect="auto",
        extent=extent,
        **({"interpolation": "nearest"} | more),
    )


def cell_size(side: int, target: float) -> float:
    """Pixels near ``target`` that give each image pixel a whole number of device pixels."""
    return max(1, round(target * SCALE / side)) * side / SCALE if side <= target * SCALE else target


def halo(width: float = 2.5) -> list:
    """A white edge around text that stands on a plot."""
    return [patheffects.withStroke(linewidth=width, foreground=PAPER)]


def save(drawing: Drawing, folder: Path, name: str) -> list[Path]:
    """Writes name.png, name.svg, name.json and what there is more, each whole or not at all. Call within ``drawing()``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    about = {"Title": drawing.title, "Description": f"{drawing.alt}\n{drawing.caption}"}
    record = {
        "title": drawing.title,
        "alt": drawing.alt,
        "caption": drawing.caption,
        "numbers": drawing.numbers,
    }
    contents = {
        "png": _render(drawing.figure, "png", about | {"Software": None}),
        "svg": _render(drawing.figure, "svg", about | {"Date": None, "Creator": "fromnoise"}),
        "json": canonical_json(finite(record)),
        **drawing.more,
    }
    for ending, content in contents.items():
        write_atomic(folder / f"{name}.{ending}", content)
    return [folder / f"{name}.{ending}" for ending in contents]


def _render(figure: Figure, form: str, metadata: dict) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=100 * SCALE, metadata=metadata)
    return buffer.getvalue()


def finite(value):
    """Arrays to lists, numbers to 6 digits, what is not finite to None: fit for strict JSON."""
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
