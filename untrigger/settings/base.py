"""The base of all settings: frozen, validated, serialisable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from untrigger.errors import UserError


def home_expanded(name: str) -> str:
    """`name` with a `~` in front of its path, or behind the colon of a dataset, replaced by the user's home."""
    kind, colon, path = name.rpartition(":")
    return kind + colon + os.path.expanduser(path)  # noqa: PTH111  # pathlib raises where there is no home


Share = Annotated[float, Field(ge=0, le=1)]

SourceName = Annotated[str, AfterValidator(home_expanded)]
"""What names a dataset, a classifier or a trigger; stages may run where the home is another one."""


class Settings(BaseModel):
    """Frozen, validated, serialisable; an unknown name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Validate `values` at the edge; raises UserError with one sentence that names the bad value."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(_sentence(error)) from error

    def record(self) -> dict[str, Any]:
        """Plain JSON values; settings without a value are left out, as KFP knows no null."""
        return self.model_dump(mode="json", exclude_none=True)


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = str(first["ctx"]["error"]) if "error" in first.get("ctx", {}) else first["msg"]
    if first["type"] == "extra_forbidden":
        return f"unknown setting {where}: `untrigger run --help` lists the settings"
    if not where:
        return reason
    got = "" if "got " in reason else f", got {first['input']!r}"
    return f"{where}: {reason[:1].lower()}{reason[1:]}{got}"
