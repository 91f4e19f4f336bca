"""Images inside a page, as data, made smaller until the page fits its limit."""

import base64
import io
from pathlib import Path

from PIL import Image

from ...core.errors import StorageError, UsageError
from ...core.json_files import read_json
from ..style import plain


class Picture:
    """A figure on disk, as it is or reduced."""

    # share of the width, quality of WebP (None: lossless); the first form is the file itself
    FORMS = (None, (1.0, None), (1.0, 85), (0.75, 85), (0.5, 85), (0.35, 75))

    def __init__(self, path: Path):
        if path.suffix not in (".png", ".svg"):
            raise UsageError(f"a page takes figures as .png or .svg, not {path}")
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
        self.path = path
        self.level = 0
        self.is_svg = path.suffix == ".svg"
        self.kind = "image/svg+xml" if self.is_svg else "image/png"
        about = path.with_suffix(".json")
        self.about = read_json(about) if about.is_file() else {}

    @property
    def alt(self) -> str:
        return self.about.get("alt") or self.about.get("title") or self.path.stem

    @property
    def label(self) -> str:
        return plain(self.about.get("title", "figure"), 80)

    @property
    def caption(self) -> list[str]:
        return self.about.get("caption", "").splitlines()

    @property
    def uri(self) -> str:
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the image on the page, CSS pixels; None: as large as it says itself."""
        if self.is_svg:
            return None
        with Image.open(self.path) as image:
            return image.width // 2, image.height // 2

    def reduce(self) -> bool:
        """Takes the next smaller form. Returns False if there is none."""
        if self.is_svg or self.level + 1 >= len(self.FORMS):
            return False
        self.level += 1
        with Image.open(self.path) as image:
            image = image.convert("RGB")
            share, quality = self.FORMS[self.level]
            if share < 1:
                image = image.resize(
                    (round(image.width * share), round(image.height * share)),
                    Image.Resampling.LANCZOS,
                )
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", lossless=quality is None, quality=quality or 60, method=4)
        if len(buffer.getvalue()) < len(self.data):
            self.data = buffer.getvalue()
            self.kind = "image/webp"
        return True


def fit(pictures: list[Picture], room: int) -> None:
    """Reduces the largest pictures until all take at most ``room`` bytes.

    Raises UsageError if the smallest forms do not fit.
    """
    while sum(len(p.uri) for p in pictures) > room:
        # first the reduction without loss, of all images
        for picture in sorted(pictures, key=lambda p: (p.level > 0, -len(p.data))):
            if picture.reduce():
                break
        else:
            raise UsageError(
                f"{len(pictures)} figures do not fit into a page of 2 MB: "
                "give fewer runs or figures"
            )
