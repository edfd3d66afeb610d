"""What a whole run is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from untrigger.settings.attacks import DEFAULT_ATTACK, ChosenAttack, planted_name, with_own_part
from untrigger.settings.base import Inputs, Settings, SourceName
from untrigger.settings.methods import (
    ClassifierSettings,
    CleanTrainingSettings,
    DataSettings,
    ElsewhereSettings,
    FlowSettings,
    GeneratorSettings,
    PixelSgdSettings,
    PoisoningSettings,
    RetrainingSettings,
    SearchImages,
    StrongestLeftSettings,
    VisualisationSettings,
)
from untrigger.settings.plans import ELSEWHERE, batched, method_of
from untrigger.settings.stairs import TOP, TOP_NAME, Beta, checked_betas, checked_gammas
from untrigger.settings.trigger_names import expanded_triggers

METHODS = ("none", "fine_tune", "single_trigger", ELSEWHERE, "beta", "ensemble")
DEFENCES = tuple(method for method in METHODS if method != ELSEWHERE)
"""The methods that a defender could use."""


class CommonConfig(Settings):
    """What a run is told, whether it plants one trigger or sweeps over many."""

    dataset: SourceName = Field(
        "digits",
        description="digits, cifar10[:PATH], cifar100[:PATH], parquet:PATH (a folder of shards), folder:PATH "
        "(class folders)",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed of the whole run")
    target_class: int = Field(0, ge=0, description="class that the backdoor leads to")
    weights: SourceName | None = Field(
        None,
        description="a classifier to take instead of training one: the folder `classifier` of a run, a model file made "
        "elsewhere (.pt, .pth, .bin, .ckpt, .safetensors, .pt2, .onnx), an address in a store, or one in MLflow, "
        "models:/NAME/VERSION or runs:/RUN-ID/PATH (--training.* is then unused)",
    )
    trigger_height: int = Field(3, ge=1, le=256, description="height of the triggers the defender looks for")
    trigger_width: int = Field(3, ge=1, le=256, description="width of the triggers the defender looks for")
    search_images: SearchImages = Field(
        "other_classes",
        description="the defender's images over which pixel SGD, generators and their measurements average F: "
        "other_classes, those of other classes than the target's; all, as in the paper",
    )
    betas: tuple[Beta, ...] = Field(
        (0.5, 0.8, 0.9, TOP),
        description="the stairs, one generator each: levels of F, and `top` (or 1) for the highest level at which a "
        "flow still holds nearly all of its samples",
    )
    betas_per_task: int = Field(
        1,
        ge=1,
        description="stairs that one generator task trains side by side: 1 fans out as far as it goes (the packing "
        "changes results by what training makes of rounding)",
    )
    methods_per_task: int = Field(
        1,
        ge=1,
        description="methods that one retraining task runs one after the other: 1 fans out as far as it goes "
        "(each stays a run and a folder of its own)",
    )
    gammas: tuple[float, ...] | None = Field(
        None,
        description="weights of the stairs in the ensemble, in the order of the betas (when not given: equal ones, or "
        "of flows 1 / (1 - level) ** 2, since higher stairs cure more)",
    )
    methods: tuple[str, ...] = Field(
        DEFENCES,
        description="defences compared with the ideal one; `beta` stands for each single generator, and "
        f"{ELSEWHERE} is a control: the paper's own baseline, which no defender has",
    )
    retraining_seeds: int = Field(3, ge=1, description="seeds per method: a single trigger's seed i uses restart i")
    data: DataSettings = DataSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    training: CleanTrainingSettings = CleanTrainingSettings()
    attack: ChosenAttack = DEFAULT_ATTACK
    poisoning: PoisoningSettings = PoisoningSettings()
    pixel_sgd: PixelSgdSettings = PixelSgdSettings()
    elsewhere: ElsewhereSettings = ElsewhereSettings()
    generator: GeneratorSettings = GeneratorSettings()
    flow: FlowSettings = FlowSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    strongest_left: StrongestLeftSettings = StrongestLeftSettings()
    visualisation: VisualisationSettings = VisualisationSettings()

    @model_validator(mode="before")
    @classmethod
    def _attack_is_whole(cls, values: Any) -> Any:
        return with_own_part(values) if isinstance(values, Mapping) else values

    @field_validator("betas")
    @classmethod
    def _betas_in_range(cls, betas: tuple[float, ...]) -> tuple[float, ...]:
        return checked_betas(betas)

    @field_validator("methods")
    @classmethod
    def _methods_known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if len(set(methods)) != len(methods):
            raise ValueError(f"methods must differ from each other, got {', '.join(methods)}")
        if "ensemble" not in methods:
            raise ValueError(f"methods must include ensemble, the defence itself, got {', '.join(methods) or 'none'}")
        return methods

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if TOP in self.betas and self.generator.family != "flow":
            raise ValueError(f"betas may hold {TOP_NAME} only with generator.family flow, got {self.generator.family}")
        if self.gammas is not None:
            checked_gammas(self.gammas, len(self.betas))
        if {"single_trigger", ELSEWHERE} & set(self.methods) and self.retraining_seeds > self.pixel_sgd.restarts:
            raise ValueError(
                f"pixel_sgd.restarts must be at least retraining_seeds ({self.retraining_seeds}), "
                f"got {self.pixel_sgd.restarts}"
            )
        triggers = len(self.betas) * self.visualisation.samples_per_beta + self.pixel_sgd.restarts
        if self.visualisation.perplexity >= triggers:
            raise ValueError(
                f"visualisation.perplexity must be below the number of triggers shown ({triggers}), "
                f"got {self.visualisation.perplexity:g}"
            )
        if not self.poisoning.epochs and self.weights is None:
            raise ValueError(
                "poisoning.epochs may be 0 only with --weights, a classifier that holds the backdoor, got 0"
            )
        if not self.poisoning.epochs and ELSEWHERE in self.methods:
            raise ValueError(
                f"{ELSEWHERE} plants triggers in a model of its own and needs poisoning.epochs of at least 1, got 0: "
                "leave it out of the methods"
            )
        return self

    @model_validator(mode="after")
    def _attack_can_be_searched_for(self) -> Self:
        attack = self.attack
        if attack.goal == "all_to_all":
            raise ValueError(
                "the search is for the triggers of one class, got the goal all_to_all, which has one for each: choose "
                "all_to_one or one_to_one, or `untrigger grid` with methods that do not search"
            )
        if attack.source_class == self.target_class:
            raise ValueError(f"source_class must be another class than target_class, got {self.target_class} for both")
        if ELSEWHERE in self.methods and attack != DEFAULT_ATTACK:
            raise ValueError(
                f"{ELSEWHERE} repeats the paper's attack, patch with its default settings, got {attack.record()}: "
                "leave it out of the methods"
            )
        return self

    def beta_plan(self) -> list[tuple[float, ...]]:
        """The betas of each generator task."""
        return batched(self.betas, self.betas_per_task)

    def planned_methods(self) -> list[str]:
        """All methods but the ideal one, in their order: `beta` is one for each single generator."""
        single = [method_of(beta) for beta in self.betas]
        return [name for method in self.methods for name in (single if method == "beta" else [method])]

    def method_plan(self) -> list[tuple[str, ...]]:
        """The methods of each retraining task: not the controls that need the true trigger."""
        handed_out = [method for method in self.planned_methods() if method != ELSEWHERE]
        return batched(handed_out, self.methods_per_task)


class DefenseConfig(CommonConfig):
    """Everything one run of the `defense` pipeline is told."""

    trigger: SourceName = Field(
        "checkerboard",
        description="what is planted: binary:K (K of the 51 patterns), checkerboard, colour:SEED, a .png or "
        ".safetensors file, or its address in a store",
    )

    def planted(self) -> tuple[str, ...]:
        """All triggers of the run."""
        return (self.trigger,)

    def inputs(self) -> Inputs:
        """What it reads beside the data."""
        return _inputs(self.weights, self.planted())

    @property
    def subject(self) -> str:
        """What it is about."""
        return planted_name(self.attack.name, self.trigger)


class SweepConfig(CommonConfig):
    """Everything one run of the `paper` pipeline is told."""

    triggers: tuple[str, ...] = Field(
        ("binary",),
        description="planted one by one: names as for `untrigger run --trigger`; binary stands for all 51 patterns, "
        "binary:0-5 and colour:0-9 for ranges, a .txt file for the names in its lines",
    )
    panels: tuple[SourceName, ...] = Field(
        (),
        description="triggers whose distribution is drawn (where the single trigger does best, middling and worst, "
        "when not given)",
    )

    @field_validator("triggers")
    @classmethod
    def _triggers_expanded(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return expanded_triggers(names)

    def planted(self) -> tuple[str, ...]:
        """All triggers of the run."""
        return self.triggers

    def inputs(self) -> Inputs:
        """What it reads beside the data."""
        return _inputs(self.weights, self.planted())

    @property
    def subject(self) -> str:
        """What it is about."""
        return f"{len(self.triggers)} triggers"

    @model_validator(mode="after")
    def _triggers_are_planted(self) -> Self:
        if not self.attack.USES_TRIGGER:
            raise ValueError(
                f"a sweep is over triggers, for which the attack {self.attack.name} has no use: take `untrigger run`"
            )
        return self

    @model_validator(mode="after")
    def _panels_are_swept(self) -> Self:
        for name in self.panels:
            if name not in self.triggers:
                raise ValueError(f"panels must be among the triggers of the sweep, got {name!r}")
        return self


def _inputs(weights: str | None, triggers: tuple[str, ...]) -> Inputs:
    given: Inputs = [] if weights is None else [("model", weights)]
    return [*given, *(("trigger", name) for name in triggers)]
