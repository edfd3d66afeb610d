"""The parts of a scan: what is said of a model beside its verdict."""

from __future__ import annotations

import pytest

from untrigger.measurements import Arm, Measured
from untrigger.model_scans import doubts

WIDE = (0.92, 0.92, 0.95, 0.95)
ALIKE = (0.95, 0.95, 0.95, 0.95, 0.95)


def recognising(accuracy: float) -> Measured:
    """What a scan measured of a classifier of this accuracy."""
    return Measured(arms=(Arm(search="3", target_class=0, success=0.0, floor=0.0),), seconds=1.0, accuracy=accuracy)


@pytest.mark.parametrize(
    ("accuracy", "references", "sentences"),
    [
        (0.93, WIDE, []),
        (0.90, WIDE, []),
        (0.82, WIDE, ["recognises 82.0 % of digits, and models trained as its references were 83.0 to 100.0 %"]),
        (0.941, ALIKE, []),
        (0.93, ALIKE, ["recognises 93.0 % of digits, and models trained as its references were 94.0 to 96.0 %"]),
        (0.97, ALIKE, ["recognises 97.0 % of digits, and models trained as its references were 94.0 to 96.0 %"]),
        (
            0.93,
            (*ALIKE, 0.5),
            ["recognises 93.0 % of digits, and models trained as its references were 94.0 to 96.0 %"],
        ),
        (0.80, ALIKE[:3], []),
        (0.30, (), ["recognises 30.0 % of digits only: are --dataset, the order of its classes"]),
        (0.30, (0.31, 0.31, 0.32, 0.32), ["recognises 30.0 % of digits only"]),
        (0.10, WIDE, ["recognises 10.0 % of digits only", "models trained as its references were 83.0"]),
    ],
)
def test_accuracies_that_models_trained_alike_do_not_have_are_doubtful(
    accuracy: float, references: tuple[float, ...], sentences: list[str]
) -> None:
    found = doubts(recognising(accuracy), [recognising(each) for each in references], "digits")
    assert len(found) == len(sentences)
    assert all(told in said for told, said in zip(sentences, found, strict=True))
