"""Distances of patches of images, of all levels of a pyramid and of each level."""

from ...measures import pyramid
from ...measures.estimate import Estimate
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import reference_id


def of_samples(context: MetricContext) -> list[Estimate]:
    patches = context.sample_features.patches
    assert context.patch_reference is not None and patches is not None
    return context.patch_reference.distances(patches)


def patch_rows(context: MetricContext) -> list[dict]:
    """Of images with one level, one row; none of images below 16 pixels."""
    patch_reference = context.patch_reference
    if patch_reference is None:
        return []
    dataset = context.dataset
    n = patch_reference.n
    names = pyramid.names_of(dataset.spec.shape)
    if len(names) <= 2:
        names = names[:1]
    # the distance of two draws depends on their number
    has_control = len(dataset.split("test")) >= n
    rows = []
    for i, name in enumerate(names):
        label = METRIC.label
        if 0 < i < len(names) - 1:
            label += f", details of {name} pixels"
        elif i:
            label += f", what is left at {name} pixels"
        rows.append(
            METRIC.measured(
                lambda i=i: context.once(of_samples)[i],
                (lambda i=i: patch_reference.test_distances[i]) if has_control else None,
                name=f"{METRIC.name}_{name}" if i else METRIC.name,
                label=label,
                split="train",
                reference=reference_id(dataset, "train", n),
                evaluator=f"pyramid/{patch_reference.patches} patches of 7x7 an image",
            )
        )
    return rows


METRIC = Metric(
    name="pyramid_swd",
    label="sliced Wasserstein distance of patches",
    unit="thousandths of a deviation",
    better="lower",
    group="referees",
    measure=patch_rows,
    data=("image",),
    order=40,
)
