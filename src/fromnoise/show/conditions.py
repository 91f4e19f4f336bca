"""Why a model cannot have a figure: each condition returns the reason, or "" if it is met."""

from collections.abc import Callable

from ..core.capabilities import (
    Completes,
    Decodes,
    Denoises,
    Encodes,
    Judges,
    Predicts,
    Reconstructs,
    Traces,
    has,
)
from ..inference.text import is_text_model
from .context import FigureContext

Condition = Callable[[FigureContext], str]


def _requires(capability: type, reason: str) -> Condition:
    def condition(context: FigureContext) -> str:
        return "" if has(context.model, capability) else reason

    return condition


predicts = _requires(Predicts, "this model does not predict one symbol after another")
completes = _requires(Completes, "this model cannot complete a partial example")
reconstructs = _requires(Reconstructs, "this model does not reconstruct")
encodes = _requires(Encodes, "this model has no encoder")
decodes = _requires(Decodes, "this model has no decoder")
denoises = _requires(Denoises, "this model does not denoise at every noise level: use diffusion")
judges = _requires(Judges, "this model has no discriminator")
traces = _requires(Traces, "this model samples in one step, not step by step from noise")


def is_image(context: FigureContext) -> str:
    kind = context.spec.kind
    if kind == "image":
        return ""
    content = "points or tables" if kind == "vector" else "text"
    return f"it is for images, and {context.dataset.name} holds {content}"


def is_text(context: FigureContext) -> str:
    return "" if is_text_model(context.loaded) else "it is for models that predict text"


def is_predicted_if_text(context: FigureContext) -> str:
    return is_text(context) if context.spec.kind == "tokens" else ""


def is_vector(context: FigureContext) -> str:
    return "" if context.spec.kind == "vector" else "it is for points and tables"


def is_plane(context: FigureContext) -> str:
    """Data are points in the plane, not columns of a table."""
    spec = context.spec
    is_plane = spec.kind == "vector" and spec.dims == 2 and context.dataset.columns is None
    return "" if is_plane else "it is for points in the plane"


def has_dims(context: FigureContext) -> str:
    """The code has the two dimensions that the user asked for."""
    latent_dim = context.model.latent_dim
    dims = context.dims
    if latent_dim < 2:
        return "a plane needs two latent dimensions, and this model has one"
    if len(set(dims)) == len(dims) == 2 and all(0 <= dim < latent_dim for dim in dims):
        return ""
    listed = ", ".join(str(dim) for dim in dims)
    return f"--dims takes two different dimensions from 0 to {latent_dim - 1}, not {listed}"


def has_decoded_plane(context: FigureContext) -> str:
    """Codes, and images decoded over the two dimensions asked for, can be drawn."""
    model = context.model
    if not has(model, Encodes) or not has(model, Decodes) or context.spec.kind != "image":
        return "it needs a model of images with an encoder and a decoder"
    return has_dims(context)
