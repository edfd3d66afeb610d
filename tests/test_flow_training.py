"""Flows led into a set whose volume is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.interruptions import interrupted_after
from tests.support.red_patches import LOG_VOLUME, red_patch_judge
from tests.support.training import same
from untrigger.datasets.images import ImageData
from untrigger.errors import UserError
from untrigger.fidelity import measure_fidelity
from untrigger.flow_training import train_flows
from untrigger.flows import FlowGenerator
from untrigger.generators import level_of, load_generator, save_generator
from untrigger.settings.methods import FlowSettings
from untrigger.settings.stairs import TOP
from untrigger.snapshots import UNKEPT, Snapshot

SHORT: dict[str, Any] = {
    "layers": 4,
    "hidden": 16,
    "bins": 4,
    "samples": 32,
    "triggers": 16,
    "images_per_trigger": 2,
    "learning_rate": 5e-3,
}


def trained(data: ImageData, betas: tuple[float, ...], **changes: Any) -> list[FlowGenerator]:
    settings = FlowSettings.of({**SHORT, **changes})
    rngs = [torch.Generator().manual_seed(int(100 * beta)) for beta in betas]
    return train_flows(red_patch_judge(data), betas, settings, rngs=rngs)


def test_a_flow_fills_its_set_with_little_loss_of_entropy(tiny_images: ImageData, rng: torch.Generator) -> None:
    (flow,) = trained(tiny_images, (0.5,), steps=250)
    found = measure_fidelity(flow, 0.5, red_patch_judge(tiny_images), samples=1000, rng=rng)
    assert found.valid > 0.85
    assert found.entropy is not None and LOG_VOLUME - 2 < found.entropy < LOG_VOLUME + 0.2


def test_a_top_stair_rises_to_a_level_that_its_samples_hold(
    tiny_images: ImageData, tmp_path: Path, rng: torch.Generator
) -> None:
    usual, top = trained(tiny_images, (0.9, TOP), steps=250)
    assert usual.level is None and top.level is not None and 0.9 < top.level < 1
    found = measure_fidelity(top, top.level, red_patch_judge(tiny_images), samples=1000, rng=rng)
    assert found.valid == pytest.approx(0.96, abs=0.02)
    save_generator(top, TOP, tmp_path)
    back, beta = load_generator(tmp_path)
    assert beta == TOP and level_of(back, beta) == top.level


def test_training_is_bit_for_bit_the_same_for_a_seed(tiny_images: ImageData) -> None:
    one, other = (trained(tiny_images, (0.5,), steps=10)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_stair_is_the_same_alone_and_beside_another(tiny_images: ImageData) -> None:
    (alone,) = trained(tiny_images, (0.5,), steps=10)
    beside, _ = trained(tiny_images, (0.5, 0.8), steps=10)
    for name, tensor in alone.state_dict().items():
        assert torch.allclose(tensor.float(), beside.state_dict()[name].float(), atol=1e-4)


def test_each_step_tells_how_far_it_is(tiny_images: ImageData) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    settings = FlowSettings.of({**SHORT, "steps": 6})
    train_flows(
        red_patch_judge(tiny_images),
        (0.5,),
        settings,
        rngs=[torch.Generator().manual_seed(0)],
        on_step=lambda step, metrics: seen.append((step, metrics[0])),
    )
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    first, last = seen[0][1], seen[-1][1]
    assert first["tau"] == pytest.approx(settings.first_tau) and last["tau"] < first["tau"]
    assert first["entropy"] == pytest.approx(0, abs=1e-4)


def test_divergence_is_said(tiny_images: ImageData) -> None:
    with pytest.raises(UserError, match=r"flow training diverged in step \d+: lower flow.learning_rate"):
        trained(tiny_images, (0.5,), steps=10, learning_rate=1e38)


@pytest.mark.slow
def test_a_search_with_flows_that_was_interrupted_ends_as_an_undisturbed_one(tiny_images: ImageData) -> None:
    def trained_on(snapshot: Snapshot, on_step: Callable[[int], None]) -> list[Tensor]:
        flows = train_flows(
            red_patch_judge(tiny_images),
            (0.5, TOP),
            FlowSettings.of({**SHORT, "steps": 20}),
            rngs=[torch.Generator().manual_seed(number) for number in range(2)],
            on_step=lambda step, _: on_step(step),
            snapshot=snapshot,
        )
        return [tensor for flow in flows for tensor in flow.state_dict().values()]

    undisturbed = trained_on(UNKEPT, lambda _: None)
    for step in (2, 11, 19):  # before the images are chosen that stand for all, after, and while the margin adapts
        assert same(interrupted_after(trained_on, step), undisturbed), step
