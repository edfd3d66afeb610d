"""Imports torchvision also where its wheel was built for another torch than the one installed.

torchvision registers fake kernels for two operators of its compiled library at import. Where that library does not
load (a CUDA wheel beside a CPU torch), the import fails with "operator torchvision::nms does not exist"; declaring
the two schemas first cures it. Nothing here uses the compiled operators. Remove this module when torchvision imports
without its library.
"""

import torch

try:
    from torchvision import datasets, models, transforms
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    _schemas = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _schemas.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import datasets, models, transforms

__all__ = ["datasets", "models", "transforms"]
