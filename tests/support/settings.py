"""Valid settings of any kind, for hypothesis to draw."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from hypothesis import reject
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from untrigger.errors import UserError
from untrigger.settings.attacks import ATTACKS, AttackSettings, known_attack
from untrigger.settings.base import Settings
from untrigger.settings.runs import METHODS, CommonConfig
from untrigger.settings.stairs import TOP

AnySettings = TypeVar("AnySettings", bound=Settings)
AnyConfig = TypeVar("AnyConfig", bound=CommonConfig)

NAMES = st.text("abé:./-_ 019", min_size=1, max_size=8).map(str.strip).filter(bool)
SWEPT = [f"{kind}:{number}" for kind in ("binary", "colour") for number in range(51)]

BOUNDS = ("ge", "gt", "le", "lt", "multiple_of")
GOALS: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.integers(0, 9).map(
    lambda source: {"goal": "one_to_one", "source_class": source}
)
"""The goals that a run takes."""

FITTING = ("poisoning.epochs", "source_class", "single_trigger_elsewhere", "a sweep is over triggers")
"""What refusals name of settings that were drawn by themselves and do not fit together."""

SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "architecture": st.sampled_from(["resnet18", "small_resnet"]),
    "betas": st.lists(st.one_of(st.floats(0.01, 0.99), st.just(TOP)), min_size=1, max_size=4, unique=True),
    "chain": st.lists(st.sampled_from(SWEPT), min_size=1, max_size=4, unique=True),
    "gammas": st.none(),
    "images_per_trigger": st.just(1),
    "methods": st.lists(st.sampled_from(METHODS), unique=True).map(
        lambda some: list(dict.fromkeys([*some, "ensemble"]))
    ),
    "normalisation": st.sampled_from(["data", "imagenet", "0.5,0.5,0.5,0.25,0.25,0.25"]),
    "panels": st.just([]),
    "perplexity": st.floats(2, 10),
    "restarts": st.integers(10, 20),
    "samples": st.integers(48, 500),
    "samples_per_beta": st.integers(25, 500),
    "retraining_seeds": st.integers(1, 10),
    "triggers": st.lists(st.sampled_from(SWEPT), min_size=1, max_size=4, unique=True),
}
"""Values of the settings that depend on each other, or on more than their own bounds."""


def settings_of(kind: type[AnySettings]) -> st.SearchStrategy[AnySettings]:
    """Any valid settings of one kind, some of them given and the others left at their defaults."""
    return _values_of(kind).map(kind.of)


@st.composite
def configs_of(draw: st.DrawFn, kind: type[AnyConfig]) -> AnyConfig:
    """Any valid configuration of a run."""
    values = draw(_values_of(kind))
    family = values.get("generator", {}).get("family", "flow")
    if family != "flow" and TOP in values.get("betas", kind.model_fields["betas"].default):
        values["betas"] = [0.5, 0.9]
    if "gammas" in values:
        stairs = len(values.get("betas", kind.model_fields["betas"].default))
        values["gammas"] = draw(st.lists(st.floats(0.01, 100), min_size=stairs, max_size=stairs))
    try:
        return kind.of(values)
    except UserError as error:
        assert any(part in str(error) for part in FITTING), "all else should fit together"
        reject()


@cache
def _values_of(kind: type[Settings]) -> st.SearchStrategy[dict[str, Any]]:
    fields = kind.model_fields.items()
    if issubclass(kind, AttackSettings):
        name = {"name": st.just(kind.model_fields["name"].default)}
        own = {n: _values(n, field) for n, field in fields if n not in ("name", "goal", "source_class")}
        return st.builds(lambda values, goal: {**values, **goal}, st.fixed_dictionaries(name, optional=own), GOALS)
    return st.fixed_dictionaries({}, optional={name: _values(name, field) for name, field in fields})


def _values(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    if name == "triggers" and field.annotation is int:
        return st.just(1)
    if name in SPECIAL:
        return SPECIAL[name]
    if name == "attack":
        return st.one_of([_values_of(known_attack(each)) for each in ATTACKS])
    if isinstance(field.default, Settings):
        return _values_of(type(field.default))
    kind = next((each for each in get_args(field.annotation) if each in (int, float, str)), field.annotation)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind in (int, float):
        return _numbers(field, whole=kind is int)
    return st.booleans() if kind is bool else NAMES


def _numbers(field: FieldInfo, *, whole: bool) -> st.SearchStrategy[Any]:
    """Numbers within the bounds of the field, up to 1000 where it has no upper one."""
    bounds = {name: getattr(each, name) for each in field.metadata for name in BOUNDS if hasattr(each, name)}
    low, high = bounds.get("ge", bounds.get("gt", 0)), bounds.get("le", bounds.get("lt", 1000))
    if whole:
        step = bounds.get("multiple_of", 1)
        numbers = st.integers(-(-(low + ("gt" in bounds)) // step), (high - ("lt" in bounds)) // step)
        return numbers.map(lambda number: number * step)
    return st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_subnormal=False)
