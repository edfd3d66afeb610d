"""The base of all settings, and of all that runs write down: frozen, validated, serialisable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import ErrorDetails

from untrigger.artifacts import parse_json, read_text, write_json
from untrigger.errors import UserError


def home_expanded(name: str) -> str:
    """`name` with a `~` in front of its path, or behind the colon of a dataset, replaced by the user's home."""
    kind, colon, path = name.rpartition(":")
    return kind + colon + os.path.expanduser(path)  # noqa: PTH111  # pathlib raises where there is no home


def seconds_from(variable: str, default: float) -> float:
    """Seconds that an environment variable gives; UserError when it gives none."""
    value = os.environ.get(variable) or default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1
    if not seconds >= 0:
        raise UserError(f"{variable} must be a number of seconds, got {value!r}")
    return seconds


Kind = Literal["dataset", "model", "references", "trigger"]
"""What can be given by name."""

Inputs = list[tuple[Kind, str]]
"""Kind and name of what a run reads beside its data."""

Share = Annotated[float, Field(ge=0, le=1)]


def is_utf8(name: str) -> bool:
    """Whether a name of the file system can be written down: artifacts, pages and servers take nothing else."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _source_name(name: str) -> str:
    if not is_utf8(name):
        raise ValueError(f"names of files and folders must be UTF-8, got {name.encode(errors='backslashreplace')!r}")
    return home_expanded(name)


SourceName = Annotated[str, AfterValidator(_source_name)]
"""What names a dataset, a classifier or a trigger; stages may run where the home is another one."""


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots: {"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


class Frozen(BaseModel):
    """Frozen, validated, serialisable; an unknown name is refused.

    What is raised is a UserError of one sentence that names the bad value, and the `source` where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    UNKNOWN: ClassVar[str] = "unknown field {}"
    """What is said of a name that the model does not know."""

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str = "") -> Self:
        """Validate `values` at the edge."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(_sentence(error.errors()[0], cls.UNKNOWN, source)) from error

    @classmethod
    def parse(cls, text: str | bytes, source: str) -> Self:
        """Read the text of a JSON file with a format version."""
        return cls.of(parse_json(text, source), source)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file with a format version, of our own or of a user's making."""
        return cls.parse(read_text(path, str(path)), str(path))


class Stored(Frozen):
    """What lies in a folder as JSON, under a name of its own."""

    FILE: ClassVar[str]

    def save(self, folder: Path) -> None:
        """Write the file; it appears whole or not at all."""
        write_json(folder / self.FILE, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls.read(folder / cls.FILE)


class Sparse(Frozen):
    """What is None is left out when it is written."""

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class Settings(Frozen):
    """What a part of the program is told."""

    UNKNOWN = "unknown setting {}: `untrigger run --help` lists the settings"

    def record(self) -> dict[str, Any]:
        """Plain JSON values; settings without a value are left out, as KFP knows no null."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def check_part(cls, values: Mapping[str, Any], source: str) -> None:
        """UserError when one of `values`, some of the settings, is unknown or wrong by itself.

        Whether settings fit together shows only when all are there.
        """
        try:
            cls.model_validate(dict(values))
        except ValidationError as error:
            for each in error.errors():
                if not (each["type"] == "value_error" and isinstance(each["input"], Mapping)):
                    raise UserError(_sentence(each, cls.UNKNOWN, source)) from error


def _sentence(error: ErrorDetails, unknown: str, source: str) -> str:
    where = ".".join(str(part) for part in error["loc"])
    told = str(error["ctx"]["error"]) if "error" in error.get("ctx", {}) else error["msg"]
    if error["type"] == "extra_forbidden":
        told = unknown.format(where)
    elif error["type"] == "missing":
        told = f"{where} is missing"
    elif error["type"] == "model_type":
        told = f"{where}: must be a JSON object, got {error['input']!r}"
    elif where:
        got = "" if "got " in told else f", got {error['input']!r}"
        told = f"{where}: {told[:1].lower()}{told[1:]}{got}"
    return f"{source}: {told}" if source else told
