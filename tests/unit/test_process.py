"""How a command ends: its exit code and its sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch.distributed as dist

from mlrec.ending import Stopped
from mlrec.process import run_main


def ends_with(error: BaseException | None) -> Callable[[Sequence[str]], int | None]:
    def main(arguments: Sequence[str]) -> int | None:
        if error is not None:
            raise error
        return None

    return main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (ValueError("lr is 'x'"), 2, "error: lr is 'x'\n"),
        (OSError("no room"), 1, "error: no room\n"),
        (Stopped(15), 143, ""),
        (KeyboardInterrupt(), 130, ""),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:5] Connection closed by peer"),
            1,
            "another rank has ended or cannot be reached",
        ),
        (dist.DistBackendError("NCCL error\nat line 5"), 1, "another rank has ended or cannot be reached (NCCL error)\n"),
    ],
)
def test_exit_code_and_sentence(error: BaseException | None, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(ends_with(error), []) == code
    printed = capsys.readouterr().err
    assert said in printed and bool(said) == bool(printed)
