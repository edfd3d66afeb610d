"""The parts of a scan: what is said of a model beside its verdict."""

from __future__ import annotations

import pytest

from untrigger.measurements import Arm, Measured
from untrigger.model_scans import doubts


def recognising(accuracy: float) -> Measured:
    """What a scan measured of a classifier of this accuracy."""
    return Measured(arms=(Arm(search="3", target_class=0, success=0.0, floor=0.0),), seconds=1.0, accuracy=accuracy)


@pytest.mark.parametrize(
    ("accuracy", "references", "sentences"),
    [
        (0.93, (0.92, 0.95), []),
        (0.89, (0.92, 0.95), []),
        (0.88, (0.92, 0.95), ["recognises 88.0 % of digits, its references 92.0 to 95.0 %"]),
        (0.99, (0.92, 0.95), ["recognises 99.0 % of digits, its references 92.0 to 95.0 %"]),
        (0.94, (0.949, 0.95, 0.951), []),
        (0.93, (0.949, 0.95, 0.951), ["recognises 93.0 % of digits, its references 94.9 to 95.1 %"]),
        (0.93, (0.949, 0.95, 0.95, 0.951, 0.5), ["recognises 93.0 % of digits, its references 50.0 to 95.1 %"]),
        (0.30, (), ["recognises 30.0 % of digits only: are --dataset, the order of its classes"]),
        (0.30, (0.31, 0.32), ["recognises 30.0 % of digits only"]),
        (0.10, (0.92, 0.95), ["recognises 10.0 % of digits only", "recognises 10.0 % of digits, its references"]),
    ],
)
def test_accuracies_that_models_trained_alike_do_not_have_are_doubtful(
    accuracy: float, references: tuple[float, ...], sentences: list[str]
) -> None:
    found = doubts(recognising(accuracy), [recognising(each) for each in references], "digits")
    assert len(found) == len(sentences)
    assert all(told in said for told, said in zip(sentences, found, strict=True))
