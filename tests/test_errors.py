"""What an error message may show, and where notices go."""

from __future__ import annotations

import warnings

import pytest

from untrigger.errors import UserNotice, notices_told, without_credentials


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://user:secret@host:5432/mlflow", "postgresql://host:5432/mlflow"),
        ("https://user@host/path", "https://host/path"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////home/someone/mlflow.db", "sqlite:////home/someone/mlflow.db"),
    ],
)
def test_user_and_password_are_left_out_of_an_address(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


def test_notices_are_told_in_one_line_and_other_warnings_go_their_usual_way() -> None:
    told: list[str] = []
    with pytest.warns(DeprecationWarning, match="of a library") as others, notices_told(told.append):
        warnings.warn("a stair is empty", UserNotice, stacklevel=1)
        warnings.warn("of a library", DeprecationWarning, stacklevel=1)
    assert told == ["a stair is empty"] and len(others) == 1
