"""Hierarchical VAE, ``--network ladder`` of the family vae: z = (z_0, z_1, ...), a vector and maps.

    p(z) = p(z_0) p(z_1 | z_0) ...,   q(z | x) = q(z_0 | x) q(z_1 | z_0, x) ...,   p(z_0) = N(0, I)
    ELBO = E_q[log p(x | z)] - sum over levels l of E_q[KL(q(z_l | z_<l, x) || p(z_l | z_<l))]

Soenderby et al. 2016 (arXiv:1602.02282), Child 2021 (arXiv:2011.10650). Codes of several levels
are concatenated, top level first: (B, latent_dim).
"""

import torch
from torch import Tensor, nn

from ..core.rng import Rng
from ..core.spec import DataSpec, Labels
from ..nets.latent import Draw, Ladder, bounded, repeat
from ..probability.gaussian import reparameterise
from ..probability.inference import Inference, Level, concatenate, sum_levels
from . import vae


class HierarchicalVAE(vae.VAE):
    def __init__(self, config: vae.Config, spec: DataSpec):
        super().__init__(config, spec)
        self.level_dims = [torch.Size(shape).numel() for shape in self.net.level_shapes]
        self.latent_dim = sum(self.level_dims)
        self.standard_dims = self.level_dims[0]

    def build_network(self, n_condition: int) -> nn.Module:
        c = self.config
        return Ladder(self.spec.shape, c.latent_dim, c.maps, c.width, c.blocks, n_condition)

    # -- the model: q(z | x) and p(x | z) ----------------------------------------------------------

    def infer(self, x: Tensor, y: Labels, rng: Rng | None, k: int = 1) -> Inference:
        def draw(level: int, mu: Tensor, logvar: Tensor) -> Tensor:
            if rng is None:
                return mu
            eps = rng.normal(f"eps{level}", (len(x), k, *mu.shape[1:])).flatten(0, 1)
            return reparameterise(mu, logvar, eps)

        return self.run_levels(draw, x, y, k)

    def run_levels(self, draw, x: Tensor, y: Labels, k: int = 1) -> Inference:
        """One pass with z_l = draw(l, mu, logvar) of q(z_l | z_<l, x)."""
        condition = self.condition(y)
        features = [repeat(part, k) for part in self.net.bottom_up(x, condition)]
        levels = []

        def record(level: int, prior, posterior) -> Tensor:
            mu_q, logvar_q = bounded(posterior)
            mu_p, logvar_p = bounded(prior) if prior else (0.0, 0.0)
            z = draw(level, mu_q, logvar_q)
            levels.append(Level(z, mu_q, logvar_q, mu_p, logvar_p))
            return z

        params = self.net.top_down(record, features, repeat(condition, k))
        return Inference(levels, params)

    def p_parameters(self, z: Tensor, y: Labels) -> Tensor:
        parts = self.split(z)
        return self.decode_levels(lambda level, prior, posterior: parts[level], y)

    def decode_levels(self, draw: Draw, y: Labels) -> Tensor:
        """Parameters of p(x | z) with z_l = draw(l, prior, None)."""
        return self.net.top_down(draw, None, self.condition(y))

    def split(self, z: Tensor) -> list[Tensor]:
        """z (B, latent_dim) -> its levels, each (B, *level shape)."""
        parts = z.split(self.level_dims, 1)
        return [part.reshape(len(z), *s) for part, s in zip(parts, self.net.level_shapes)]

    # -- samples and codes -------------------------------------------------------------------------

    def draw_levels(
        self, n: int, y: Labels, options: vae.Options, rng: Rng
    ) -> tuple[list[Tensor], Tensor]:
        """n draws of z ~ p(z), by level (n, *level shape), and the parameters of p(x | z)."""
        levels = []

        def draw(level: int, prior, posterior) -> Tensor:
            shape = (n, *self.net.level_shapes[level])
            z = options.temperature * rng.normal(f"z{level}", shape)
            if prior is not None:
                z = reparameterise(*bounded(prior), z)
            levels.append(z)
            return z

        params = self.decode_levels(draw, y)
        return levels, params

    def draw_latents(self, n: int, options: vae.Options, rng: Rng, y: Labels = None) -> Tensor:
        """n draws of z ~ p(z), (n, latent_dim); those below the top level depend on y."""
        return concatenate(self.draw_levels(n, y, options, rng)[0])

    def sample_params(self, n: int, y: Labels, options: vae.Options, rng: Rng) -> Tensor:
        return self.draw_levels(n, y, options, rng)[1]

    def posterior(self, x: Tensor, y: Labels = None) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of q(z_l | z_<l, x), with the means of the levels above."""
        levels = self.infer(x, y, None).levels
        means = concatenate([level.mu_q for level in levels])
        return means, concatenate([(0.5 * level.logvar_q).exp() for level in levels])

    def kl_per_dimension(self, x: Tensor, y: Labels, rng: Rng) -> Tensor:
        levels = self.infer(x, y, rng).levels
        return torch.cat([level.kl().mean(0).flatten() for level in levels])

    # -- likelihood --------------------------------------------------------------------------------

    def log_densities(self, z: Tensor, x: Tensor, y: Labels = None) -> tuple[Tensor, Tensor]:
        parts = self.split(z)
        q = self.run_levels(lambda level, mu, logvar: parts[level], x, y)
        log_p = sum_levels([level.log_p() for level in q.levels])
        return log_p - self.nll(q.params, x), sum_levels([level.log_q() for level in q.levels])
