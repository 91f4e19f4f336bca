"""What conversion does to images, and the notes that their owner may not expect."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..formats.images import Conversion, DecodedImage

MAX_NARROW = 0.51  # share of the range of values, up to which a narrow use of it is noted
MIN_SAME = 0.5  # share of images that are exactly the same, from which on that is noted


@dataclass
class ConversionStatistics:
    """Sums over decoded images.

    lows, highs       smallest and largest level of each image
    fingerprints      pixels -> number of images with these pixels
    alphas            pixels -> alpha of the first image with these pixels
    background_hides  pixels for which another background would make a difference
    """

    transparent: int = 0
    with_frames: int = 0
    is_all_grey: bool = True
    lows: list[int] = field(default_factory=list)
    highs: list[int] = field(default_factory=list)
    fingerprints: Counter = field(default_factory=Counter)
    alphas: dict[bytes, bytes | None] = field(default_factory=dict)
    background_hides: set[bytes] = field(default_factory=set)

    def add(self, image: DecodedImage) -> None:
        pixels = image.pixels
        self.transparent += image.is_transparent
        self.with_frames += image.has_frames
        self.is_all_grey = self.is_all_grey and bool((pixels == pixels[:1]).all())
        self.lows.append(int(pixels.min()))
        self.highs.append(int(pixels.max()))
        fingerprint = hashlib.sha256(pixels).digest()
        alpha = None if image.alpha is None else hashlib.sha256(image.alpha).digest()
        self.fingerprints[fingerprint] += 1
        first_alpha = self.alphas.setdefault(fingerprint, alpha)
        if image.is_invisible or alpha != first_alpha:
            self.background_hides.add(fingerprint)

    def notes(self, conversion: Conversion) -> list[str]:
        """A note on each effect of the conversion."""
        notes = []
        if self.is_all_grey and not conversion.grey:
            notes.append("every image is grey: stored with one channel")
        background = conversion.background
        n = len(self.lows)
        if self.transparent:
            notes.append(
                f"{self.transparent} of {n} images are transparent in places: laid over "
                f"{background}; --background sets another colour"
            )
        fingerprint, most = self.fingerprints.most_common(1)[0]
        if most > 1 and most >= MIN_SAME * n:
            hint = ""
            if fingerprint in self.background_hides:
                hint = (
                    f"; what is {background} and transparent around vanishes over "
                    f"{background}: give another --background"
                )
            notes.append(f"{most} of {n} images are exactly the same after conversion{hint}")
        if self.with_frames:
            notes.append(
                f"{self.with_frames} of {n} files hold several images: the first one of each is "
                "taken"
            )
        if conversion.span:
            low, high = map(format_exactly, conversion.span)
            notes.append(
                f"levels 0 to 255 stand for values {low} to {high} of the files: "
                f"value = {low} + level * ({high} - {low}) / 255"
            )
        return notes + self._notes_on_range()

    def _notes_on_range(self) -> list[str]:
        low = np.quantile(self.lows, 0.01, method="lower")
        high = np.quantile(self.highs, 0.99, method="higher")
        if not 0 < high - low <= MAX_NARROW * 255:
            return []
        if high < 128:
            appearance = "dark"
        else:
            appearance = "bright" if low >= 128 else "pale"
        return [
            f"the images use {100 * (high - low) / 255:.0f} % of the range of values, {low} to "
            f"{high} of 255, and will be {appearance}: --range data spreads what they use over "
            "the whole range"
        ]


def format_exactly(value: float) -> str:
    """A number without a needless fraction, exact."""
    return str(int(value)) if value == int(value) else repr(value)
