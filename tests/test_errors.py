"""What an error message may show."""

from __future__ import annotations

import pytest

from untrigger.errors import without_credentials


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
