"""Networks for use without training: batch norm folded, gradients restricted to what a patch reaches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from untrigger.networks.patch_gradients import Moving, WindowedConvolution, gradients_in_patches

PATCHES = (1, 3)
"""Heights and widths of the patches whose gradients are compared: more convolutions are restricted for small ones."""

ROUNDING, TF32_ROUNDING = 1e-3, 1e-2
"""What rounding may change at most, as a share of the largest value; on a GPU, that of TF32."""


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


@dataclass(frozen=True)
class Answers:
    """What a network gives on some images: logits, (n, classes), and the gradient of all their squares with respect to
    patches on them, one tensor for each of PATCHES."""

    logits: Tensor
    gradients: tuple[Tensor, ...]

    def same(self, other: Answers) -> bool:
        """Whether they are the other's up to rounding."""
        rounding = TF32_ROUNDING if self.logits.device.type == "cuda" else ROUNDING
        pairs = zip((self.logits, *self.gradients), (other.logits, *other.gradients), strict=True)
        return all(bool((a - b).abs().amax() <= rounding * a.abs().amax()) for a, b in pairs)


def answers_of(network: nn.Module, path: Sequence[Moving], images: Tensor) -> Answers:
    """What `network` answers to images, float (n, 3, h, w), normalised.

    path: of the network, in which the backward pass is restricted to what the patches reach. One patch each lies in the
    first corner and in the last, where maps of odd sizes differ; the others lie anywhere.
    """
    found = [_answer_and_gradient(network, path, images, patch) for patch in PATCHES]
    return Answers(found[0][0], tuple(gradient for _, gradient in found))


@torch.enable_grad()
def _answer_and_gradient(
    network: nn.Module, path: Sequence[Moving], images: Tensor, patch: int
) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    spans = torch.tensor([extent - patch for extent in images.shape[2:]])
    drawn = torch.stack([torch.randint(int(span) + 1, (len(images),), generator=rng) for span in spans], 1)
    drawn[0], drawn[-1] = 0, spans
    positions, pixels = drawn.to(images.device), images.detach().clone().requires_grad_()
    with gradients_in_patches(path, pixels, positions, (patch, patch)):
        logits = network(pixels)
        (gradient,) = torch.autograd.grad(logits.square().sum(), pixels)
    rows, columns = (positions[:, axis, None] + torch.arange(patch, device=images.device) for axis in (0, 1))
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return logits.detach(), gradient[which, :, rows[:, :, None], columns[:, None, :]]
