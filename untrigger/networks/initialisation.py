"""Weights drawn from randomness that is passed in, instead of torch's global one."""

import torch
from torch import nn


@torch.no_grad()
def initialise(module: nn.Module, rng: torch.Generator) -> None:
    """Draw every convolution and linear layer of `module` anew, in place, from `rng` (on the CPU).

    Convolutions: normal, variance 2 / fan-out (He et al., 2015). Linear layers: uniform in +-1/sqrt(fan-in), and so
    are their biases. Normalisation layers keep their constant initialisation.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu", generator=rng)
        elif isinstance(part, nn.Linear):
            bound = part.in_features**-0.5
            nn.init.uniform_(part.weight, -bound, bound, generator=rng)
            if part.bias is not None:
                nn.init.uniform_(part.bias, -bound, bound, generator=rng)
