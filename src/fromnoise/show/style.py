"""The style of every figure, and how it is written to disk.

Figures are laid out in pixels from the top left corner and written with two device pixels for each, so
that a pixel of a small image covers a whole number of device pixels. matplotlib is used through its objects,
but its settings are global: ``drawing()`` admits one figure at a time and restores the settings afterwards.
"""

import io
import textwrap
import threading
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core.files import storage_error, write_atomic
from ..core.json_files import canonical_json

INK = "#1d2129"
SOFT = "#5b6270"
FAINT = "#e3e6eb"
PAPER = "#ffffff"
CAPTION = "#69707d"
REAL = "#5b6270"
MODEL = "#d9480f"
ACCENT = "#1f6fd1"
REFUSED = "#8f1d44"
# ten classes, which differ in hue and lightness; a glyph repeats the information
CLASSES = "#1f6fd1 #e8590c #2f9e44 #c92a2a #8646c4 #8a5a2b #e64980 #343a40 #a68000 #1098ad".split()
WIDTH = 840  # pixels between the margins: the width of a README
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
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
}
_LOCK = threading.RLock()


@contextmanager
def drawing():
    """Our settings of matplotlib, for one thread at a time."""
    with _LOCK, matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # ignore the user's matplotlibrc
        matplotlib.rcParams.update(SETTINGS)
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def plain(text, width: int = 200) -> str:
    """A name or command from outside in one line: no control characters, at most ``width`` characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return text if len(text) <= width else f"{text[: width // 2]}…{text[-width // 2 :]}"


@dataclass
class Drawing:
    """A finished figure.

    numbers  the plotted values
    alt      the figure in one sentence, for readers who cannot see it
    more     further files by their ending, such as a film
    """

    figure: Figure
    title: str
    numbers: dict
    alt: str
    caption: str
    more: dict[str, bytes] = field(default_factory=dict)


class Sheet:
    """A figure: title, note, a body of width x height pixels, and the caption below it.

    note: sentences below the title. Everything is added to the body, in pixels from its top left corner.
    """

    def __init__(
        self, title: str, note: str, caption: list[str], height: float, width: float = WIDTH
    ):
        self.title = title
        self.note = note
        self.caption = caption
        titles = textwrap.wrap(title, int(width / 10.4))
        notes = textwrap.wrap(note, int(width / 6.6))
        lines = []
        for text in caption:
            lines += textwrap.wrap(text, int(width / 6.15), subsequent_indent="    ")
        self.left = MARGIN
        self.top = MARGIN + 20 * len(titles) + 15 * len(notes) + 10
        self.width = width + 2 * MARGIN
        self.height = self.top + height + 16 + 12 * len(lines) + 14
        self.figure = Figure(figsize=(self.width / 100, self.height / 100), dpi=100)
        top = MARGIN - self.top + 2
        for line in titles:
            self.add_text(0, top, line, size=12, weight="bold")
            top += 20
        for line in notes:
            self.add_text(0, top, line, color=SOFT)
            top += 15
        small = {"size": 7, "color": CAPTION, "family": "DejaVu Sans Mono"}
        for i, line in enumerate(lines):
            self.add_text(0, height + 18 + 12 * i, line, **small)

    def add_axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame has these pixels of the body."""
        left += self.left
        bottom = self.height - self.top - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def add_panels(
        self, n: int, columns: int, width: float, height: float, gap: tuple[float, float], *corner
    ) -> list[Axes]:
        """n axes in rows of ``columns``. gap: between them, across and down; corner: left, top."""
        left, top = corner
        panels = []
        for i in range(n):
            across = left + i % columns * (width + gap[0])
            panels.append(
                self.add_axes(across, top + i // columns * (height + gap[1]), width, height)
            )
        return panels

    def add_text(
        self, left: float, top: float, text: str, size: float = 8.5, color: str = INK, **more
    ) -> None:
        x = (self.left + left) / self.width
        y = 1 - (self.top + top) / self.height
        options = {"ha": "left", "va": "top"} | more
        self.figure.text(x, y, text, fontsize=size, color=color, parse_math=False, **options)

    def add_head(self, left: float, top: float, text: str, color: str = INK) -> None:
        self.add_text(left, top, text, size=9, color=color, weight="bold")

    def add_legend(self, left: float, top: float, entries: Sequence[tuple[str, str, str]]) -> None:
        """Signs with their colours and names, side by side."""
        for sign, color, name in entries:
            self.add_text(left, top, sign, color=color)
            self.add_text(left + 14, top, name, size=8)
            left += 44 + 6.1 * len(name)

    def add_image(
        self, image: np.ndarray, left: float, top: float, width: float, height: float
    ) -> Axes:
        """A uint8 image (H, W[, 3]) over these pixels of the body, without axes."""
        axes = self.add_axes(left, top, width, height)
        axes.set_axis_off()
        show_image(axes, image)
        return axes

    def finish(self, numbers: dict, alt: str, **more: bytes) -> Drawing:
        """more: further files by their ending."""
        return Drawing(self.figure, self.title, numbers, alt, "\n".join(self.caption), more)


def show_image(axes: Axes, image: np.ndarray, extent=None, **more) -> None:
    """An image that fills the axes, without blur where it is enlarged."""
    options = {"interpolation": "nearest"} | more
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=extent, **options)


def cell_size(side: int, target: float) -> float:
    """Pixels near ``target`` that give each image pixel a whole number of device pixels."""
    return max(1, round(target * SCALE / side)) * side / SCALE if side <= target * SCALE else target


def halo(width: float = 2.5) -> list:
    """A white edge around text on a plot."""
    return [patheffects.withStroke(linewidth=width, foreground=PAPER)]


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


def save(drawing: Drawing, folder: Path, name: str) -> list[Path]:
    """Writes name.png, name.svg, name.json and further files, each atomically. Returns their paths.

    Call within ``drawing()``. Raises StorageError.
    """
    make_folder(folder)
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
    """Value for strict JSON: arrays become lists, numbers have 6 digits, NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return list(map(finite, value))
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
