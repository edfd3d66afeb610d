"""Networks for use without training: batch norm folded, gradients restricted to what a patch reaches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from untrigger.networks.patch_gradients import Moving, WindowedConvolution, gradients_in_patches

PATCH = 3
"""Height and width of the patch whose gradient is compared."""

ROUNDING = 1e-2
"""What rounding, TF32 on a GPU included, may change at most, as a share of the largest value."""


def window_convolutions(module: nn.Module) -> None:
    """Make every convolution that can have its backward pass restricted to a window one that does, recursively."""
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Conv2d) and WindowedConvolution.fits(part):
            setattr(module, name, WindowedConvolution.of(part))
        else:
            window_convolutions(part)


def window_path(network: nn.Module) -> list[Moving]:
    """The convolutions and pools that an image passes one after the other; those of shortcuts reach no further."""
    return [part for name, part in network.named_modules() if isinstance(part, Moving) and "downsample" not in name]


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every `bnK` into its `convK`, and in a sequence a norm into the convolution before it, recursively."""
    names = [name for name, _ in module.named_children()]
    following = dict(itertools.pairwise(names)) if isinstance(module, nn.Sequential) else {}
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Conv2d):
            norm_name = following.get(name, name.replace("conv", "bn"))
            norm = getattr(module, norm_name, None)
            if isinstance(norm, nn.BatchNorm2d) and norm.num_features == part.out_channels:
                setattr(module, name, fuse_conv_bn_eval(part, norm))
                setattr(module, norm_name, nn.Identity())
        else:
            fold_batch_norms(part)


def same_answers(plain: nn.Module, fast: nn.Module, path: Sequence[Moving], images: Tensor) -> bool:
    """Whether two networks give the same, up to rounding: logits of `images`, and gradients of patches on them.

    images: float (n, 3, h, w), normalised. path: that of `fast`, in which the backward pass is restricted.
    """
    rng = torch.Generator().manual_seed(0)
    spans = [extent - PATCH + 1 for extent in images.shape[2:]]
    drawn = torch.stack([torch.randint(span, (len(images),), generator=rng) for span in spans], 1)
    positions = drawn.to(images.device)
    try:
        found = _answers(fast, path, images, positions)
    except Exception:  # a network that was not made for this may fail in any way
        return False
    return all(
        bool((a - b).abs().amax() <= ROUNDING * a.abs().amax())
        for a, b in zip(_answers(plain, (), images, positions), found, strict=True)
    )


@torch.enable_grad()
def _answers(network: nn.Module, path: Sequence[Moving], images: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, (n, classes), and the gradient of all their squares with respect to each image's patch."""
    pixels = images.detach().clone().requires_grad_()
    with gradients_in_patches(path, pixels, positions, (PATCH, PATCH)):
        logits = network(pixels)
        (gradient,) = torch.autograd.grad(logits.square().sum(), pixels)
    rows, columns = (positions[:, axis, None] + torch.arange(PATCH, device=images.device) for axis in (0, 1))
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return logits.detach(), gradient[which, :, rows[:, :, None], columns[:, None, :]]
