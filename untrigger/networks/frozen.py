"""Networks for use without training: batch norm folded, gradients restricted to what a patch reaches."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from untrigger.networks.patch_gradients import WindowedConvolution


def window_convolutions(module: nn.Module) -> None:
    """Make every convolution that can have its backward pass restricted to a window one that does, recursively."""
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Conv2d) and WindowedConvolution.fits(part):
            setattr(module, name, WindowedConvolution.of(part))
        else:
            window_convolutions(part)


def convolution_path(network: nn.Module) -> list[nn.Conv2d]:
    """The convolutions that an image passes one after the other; those of shortcuts reach no further."""
    return [part for name, part in network.named_modules() if isinstance(part, nn.Conv2d) and "downsample" not in name]


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every `bnK` into its `convK`, and the second child of a `downsample` into its first, recursively."""
    for name, part in list(module.named_children()):
        if isinstance(part, nn.Conv2d):
            norm_name = "1" if name == "0" else name.replace("conv", "bn")
            norm = getattr(module, norm_name, None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(part, norm))
                setattr(module, norm_name, nn.Identity())
        else:
            fold_batch_norms(part)
