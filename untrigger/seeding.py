"""Random streams: every stage derives its own from the run's seed."""

import hashlib

import torch
from torch import Tensor


def derived_seed(seed: int, *purpose: str | int | float) -> int:
    """A seed below 2**31 for one purpose, independent of the seeds for other purposes."""
    text = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1


def derived_rng(seed: int, *purpose: str | int | float) -> torch.Generator:
    """The randomness for one purpose, on the CPU."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


def forked(rng: torch.Generator, *purposes: str) -> tuple[torch.Generator, ...]:
    """A source of randomness per purpose, on the CPU: however much one of them is used, the others give the same.

    Takes one number from `rng`, whatever the purposes.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=rng))
    return tuple(derived_rng(seed, purpose) for purpose in purposes)


def moved(drawn: Tensor, device: torch.device) -> Tensor:
    """`drawn`, numbers from an `rng` on the CPU, on `device`.

    To a GPU it goes from pinned memory, since any other copy waits until the GPU has done all that it was given before.
    """
    if device.type != "cuda" or drawn.is_cuda:
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)
