"""Real images and the nearest images that the decoder can generate."""

from ...core.capabilities import HasFeatures, Reconstructs, has
from ...core.family import Family
from ...inference.invert import invert
from ...inference.invert import why_not as why_no_inversion
from ..conditions import is_image
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows, squared_error
from ..style import Drawing


def why_not(context: FigureContext) -> str:
    return why_no_inversion(context.model)


def draw_invert(context: FigureContext, n: int = 10) -> Drawing:
    """Real images; below each, the image decoded from the best z of a search."""
    model = context.model
    batch = context.first(n)
    y = batch.y if context.conditional else None
    inversion = invert(model, batch.x, y, context.options, context.rng("invert"))
    error = squared_error(batch.x, inversion.x_hat).cpu().numpy()
    rows = [
        ImageRow(f"{context.split} images", context.pixels(batch.x)),
        ImageRow("best z", context.pixels(inversion.x_hat), f"error {error.mean():.4f}"),
    ]
    numbers = {
        "rows": list(range(len(batch))),
        "mse": error,
        "how": inversion.how,
        "squared_norm": inversion.z.square().sum(1).cpu().numpy(),
    }
    if has(model, Reconstructs):
        x_hat = context.reconstruct(batch.x, batch.y)
        encoder_error = squared_error(batch.x, x_hat).cpu().numpy()
        name = f"error {encoder_error.mean():.4f}"
        rows.append(ImageRow("z of the encoder", context.pixels(x_hat), name))
        numbers["mse_of_encoder"] = encoder_error
    rows[-1].labels = [f"{value:.4f}" for value in error]
    rows[-1].labels_name = "error of the best z"
    title = "Inversion: real images above, the nearest decoded images below"
    note = _note(context.model, inversion.how)
    sheet = sheet_of_rows(title, note, context.caption("invert"), rows)
    alt = (
        f"{len(batch)} real images above the nearest decoded images; "
        f"mean squared error {error.mean():.4f}."
    )
    return sheet.finish(numbers, alt)


def _note(model: Family, how: str) -> str:
    note = f"Below: the image decoded from the z {how}."
    if has(model, Reconstructs):
        note += " Last row: the z of the encoder; the difference is the error of the encoder."
    if has(model, HasFeatures):
        note += " Similarity: pixels and features of the model's discriminator."
    return note + (
        " An image that no z comes near to is not learned. Below each column the mean squared "
        "error per pixel, pixels in [0, 1]."
    )


FIGURE = Figure(
    name="invert",
    about="real images above, the nearest decoded images below",
    group="reconstruction",
    needs=(is_image, why_not),
    draw=draw_invert,
)
