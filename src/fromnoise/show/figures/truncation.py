"""Samples whose z or symbols are drawn ever nearer to the mode, and their diversity."""

from ...core.capabilities import Predicts, has
from ...inference import sample
from ...measures.separation import mean_distance
from ..conditions import is_image
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows
from ..style import Drawing

# options and their values; truncation comes first: the temperature of a GAN does not scale z
LEVELS = {
    "truncation": (4.0, 2.0, 1.5, 1.0, 0.5),
    "temperature": (1.0, 0.8, 0.6, 0.4, 0.2),
}
SAMPLES = 256  # of each row, for its diversity
COLUMNS = 10


def option_of(context: FigureContext) -> str:
    """The sampling option that reduces the spread of samples, or ""."""
    for name in LEVELS:
        if name in context.loaded.family.Options.model_fields:
            return name
    return ""


def why_not(context: FigureContext) -> str:
    if option_of(context):
        return ""
    return f"this model samples without any of {', '.join(LEVELS)}"


def draw_truncation(context: FigureContext, columns: int = COLUMNS) -> Drawing:
    """The same z, or random numbers, at each level of the option: a row of samples each."""
    option = option_of(context)
    real = context.first(SAMPLES).x.cpu()
    n = len(real)
    real_distance = mean_distance(real.flatten(1))
    rows = []
    numbers = []
    for level in LEVELS[option]:
        options = context.loaded.family.progress_values | {option: level}
        x = sample.sample(context.loaded, n, context.seed, options=options).cpu().clamp(-1, 1)
        distance = mean_distance(x.flatten(1))
        share = distance / real_distance if real_distance else float("nan")
        numbers.append({option: level, "diversity": share})
        images = context.pixels(x[:columns])
        rows.append(ImageRow(f"{option} {level:g}", images, f"diversity {share:.2f}"))
    rows[-1].gap = 14
    rows.append(ImageRow("real", context.pixels(real[:columns]), "diversity 1"))
    title = f"{option.capitalize()}: samples of {context.name}"
    note = _note(context, option, n)
    sheet = sheet_of_rows(title, note, context.caption("truncation"), rows)
    fall = f"{numbers[0]['diversity']:.2f} to {numbers[-1]['diversity']:.2f}"
    alt = (
        f"{len(numbers)} rows of samples of falling {option}; "
        f"their diversity goes from {fall} of that of real images."
    )
    return sheet.finish({"levels": numbers, "n": n, "real": real_distance}, alt)


def _note(context: FigureContext, option: str, n: int) -> str:
    kept = "z"
    meaning = "z is multiplied by it"
    if has(context.model, Predicts):
        kept = "random numbers"
        meaning = "the probability of each symbol is raised to the power 1 / temperature"
    elif option == "truncation":
        meaning = "components of z are drawn within so many standard deviations (4: nearly all)"
    return (
        f"A column keeps its {kept} while {option} falls: {meaning}. Diversity: mean distance in "
        f"pixels between two of {n} samples, relative to {n} real {context.split} images. "
        f"A lower {option} gives safer and less diverse samples."
    )


FIGURE = Figure(
    name="truncation",
    about="the same z drawn ever nearer to the mode, with its diversity",
    group="samples",
    needs=(is_image, why_not),
    draw=draw_truncation,
)
