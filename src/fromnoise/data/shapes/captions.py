"""The captions of ``shapes``: what they may say, and what one says."""

from dataclasses import dataclass
from functools import cache

from ...core.errors import UsageError
from .drawing import COLOURS, SHAPES, SIZES

RELATIONS = ("left of", "right of", "above", "below")  # of the first shape to the second
# Each of these colours and shapes occurs with others in training.
UNSEEN = (("red", "triangle"), ("green", "cross"), ("blue", "circle"), ("yellow", "square"))
WORDS = ("a", *SIZES, *COLOURS, *SHAPES, "left", "right", "of", "above", "below")
LONGEST = 10  # words: "a small red circle left of a large blue square"


@dataclass(frozen=True)
class CaptionShape:
    """One shape of a caption; size "" if the caption does not name it."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}".replace("  ", " ")


@dataclass(frozen=True)
class Scene:
    """What a caption says: one shape, or two and the relation of the first to the second."""

    shapes: tuple[CaptionShape, ...]
    relation: str = ""

    def __str__(self) -> str:
        return f" {self.relation} ".join(map(str, self.shapes))

    @property
    def unseen(self) -> bool:
        return any((shape.colour, shape.shape) in UNSEEN for shape in self.shapes)


@cache
def parse_caption(caption: str) -> Scene:
    """Raises UsageError if it is not built like the captions of this data."""
    for relation in ("", *RELATIONS):
        parts = caption.split(f" {relation} ") if relation else [caption]
        shapes = [_parse_shape(part.split()) for part in parts]
        if len(parts) == 1 + bool(relation) and all(shapes):
            return Scene(tuple(shapes), relation)
    raise UsageError(
        f"'{caption[:80]}' is not built like 'a small red circle' or 'a red circle left of a large "
        "blue square'"
    )


def _parse_shape(words: list[str]) -> CaptionShape | None:
    if len(words) not in (3, 4):
        return None
    article, *sizes, colour, shape = words
    is_known = article == "a" and set(sizes) <= set(SIZES) and colour in COLOURS and shape in SHAPES
    return CaptionShape("".join(sizes), colour, shape) if is_known else None
