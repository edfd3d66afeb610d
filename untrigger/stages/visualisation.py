"""t-SNE visualisation: lay out samples of every stair, the reversed triggers and the true one in the plane."""

from __future__ import annotations

import torch

from untrigger.attacks.registry import build_attack
from untrigger.reports.figures import draw_embedding
from untrigger.reports.tsne import REVERSED_GROUP, TRUE_GROUP, Embedding, embed
from untrigger.seeding import derived_rng, derived_seed
from untrigger.settings.attacks import DEFAULT_ATTACK, ChosenAttack
from untrigger.settings.methods import VisualisationSettings
from untrigger.stages.log import Log
from untrigger.stages.stage import InFolder, OutFolder, stage
from untrigger.staircase import load_staircase
from untrigger.triggers import load_triggers


@stage("visualisation")
def run(
    log: Log,
    *,
    trigger_staircase: InFolder,
    reversed_triggers: InFolder,
    true_trigger: InFolder,
    embedding: OutFolder,
    attack: ChosenAttack = DEFAULT_ATTACK,
    visualisation: VisualisationSettings,
    seed: int,
) -> None:
    """Write the figure and, as tensors, the triggers, their group and their positions.

    The true trigger is left out when it is no patch, or its size differs from the size that was looked for.
    """
    staircase = load_staircase(trigger_staircase)
    rng = derived_rng(seed, "visualisation")
    samples = [part.sample(visualisation.samples_per_beta, rng) for part in staircase.generators]
    single, true = load_triggers(reversed_triggers), load_triggers(true_trigger)
    groups = [torch.full((len(part),), index) for index, part in enumerate(samples)]
    parts, groups = [*samples, single], [*groups, torch.full((len(single),), REVERSED_GROUP)]
    if build_attack(attack, true[0]).is_patch and true.shape[1:] == single.shape[1:]:
        parts, groups = [*parts, true], [*groups, torch.full((1,), TRUE_GROUP)]
    with log.run() as tracked:
        triggers = torch.cat(parts)
        positions = embed(triggers, visualisation.perplexity, seed=derived_seed(seed, "t-SNE"))
        embedded = Embedding(triggers, torch.cat(groups), positions)
        embedded.save(embedding)
        draw_embedding(embedded, staircase.betas, embedding / "tsne.png")
        tracked.files(embedding / "tsne.png", "figures")
