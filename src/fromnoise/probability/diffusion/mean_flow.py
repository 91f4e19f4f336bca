"""Jumps: a network that learns mean velocities makes samples in one or two steps.

(MeanFlow: Geng et al. 2025, arXiv:2505.13447, eqs. 6 and 10.) On a straight path x_t = (1 - t) x +
t eps with velocity v = eps - x, the mean velocity from r to t is

    u(x_t, t, r) = 1/(t - r) int_r^t v,    so that    x_r = x_t - (t - r) u

Differentiating (t - r) u along the path gives what the network is trained to satisfy:

    u = v - (t - r) du/dt,    du/dt = (v d/dx + d/dt) u
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

from ...core.family import Loss
from ...core.rng import Rng
from ...core.spec import Condition
from .path import Path, append_dims

Predict = Callable[..., Tensor]


def mean_flow_loss(
    predict: Predict,
    path: Path,
    x: Tensor,
    eps: Tensor,
    t: Tensor,
    condition: Condition,
    rng: Rng,
) -> Loss:
    """Mean squared error of u: of jumps from any t to any r below in the first B // 2 rows, of
    velocities, where r = t, in the others. Large errors count less: long jumps err most.

    predict: (x_t, t, condition, r) -> u, and without r the velocity v. x, eps: (B, *shape). t (B,):
    rising; every second one is the time of a velocity.

    du/dt is taken along the velocity that the network itself predicts, which depends on x_t alone
    (Geng et al. 2025, arXiv:2512.02012).
    """
    n = len(x) // 2
    t_jump = rng.uniform("far", (n,)).clamp(*path.range)
    r_jump = t_jump * rng.uniform("until", (n,))
    a, b = (append_dims(part, x) for part in path.target("v", t))
    v = a * x + b * eps
    t = torch.cat([t_jump, t[::2]])  # t rises: every second one has all levels
    r = torch.cat([r_jump, t[n:]])
    x_t = path.mix(x, eps, t)
    condition_jump = None if condition is None else condition[:n]

    def predict_jump(x_t: Tensor, t: Tensor) -> Tensor:
        return predict(x_t, t, condition_jump, r_jump)

    with torch.no_grad():
        velocity = predict(x_t[:n], t_jump, condition_jump)
        tangents = (velocity, torch.ones_like(t_jump))
        _, du_dt = jvp(predict_jump, (x_t[:n], t_jump), tangents)
    u_jump = v[:n] - append_dims(t_jump - r_jump, x) * du_dt
    error = mean_square(predict(x_t, t, condition, r) - torch.cat([u_jump, v[n:]]))  # B
    value = (error / (error.detach() + 0.01).sqrt()).mean()
    return Loss(value, {"error": error[n:].mean(), "jump_error": error[:n].mean()})


def mean_square(difference: Tensor) -> Tensor:
    """(B, *shape) -> (B,): the mean over the components of each example."""
    return difference.square().flatten(1).mean(1)
