"""The known part of a denoiser, in closed form: of a mixture of Gaussians, of one, or none."""

from .gaussian_data import GaussianData
from .mixture_data import MixtureData

BASIS_NUMBERS = 2**20  # of the principal components, by default


def make_known_denoiser(
    dims: int, components: int | None, gaussians: int, classes: int
) -> GaussianData | None:
    """Not fitted yet. components: of PCA; 0: no known denoiser; None: as many as fit 4 MB.

    gaussians: of the mixture, at most. classes: of a model of p(x | class), else 0.
    """
    if components is None:
        components = max(1, BASIS_NUMBERS // dims)
    components = min(dims, components)
    if not components:
        return None
    if gaussians == 1:
        return GaussianData(dims, components)
    return MixtureData(dims, components, gaussians, classes)
