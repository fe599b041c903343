import pytest

from mlrec.config.durations import steps_of


@pytest.mark.parametrize(
    ("duration", "steps"), [("100 steps", 100), ("2 epochs", 14), ("5%", 25), (".5 epochs", 4)]
)
def test_steps_of_duration(duration: str, steps: int) -> None:
    assert steps_of(duration, steps_per_epoch=7, total_steps=500) == steps
