"""Random streams: every stage derives its own from the run's seed."""

import hashlib

import torch


def derived_seed(seed: int, *purpose: str | int | float) -> int:
    """A seed below 2**31 for one purpose, independent of the seeds for other purposes."""
    text = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1


def derived_generator(seed: int, *purpose: str | int | float) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
