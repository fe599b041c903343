"""What reaches a service such as W&B or TensorBoard, and what its errors do to a training."""

import logging
from unittest.mock import MagicMock

import pytest

from mlrec.runs.service import ServiceSink


@pytest.mark.parametrize(
    ("last", "exit_code", "expected"),
    [("test/hr@10", 0, 1), ("train/loss", 0, 0), ("test/hr@10", 1, 0)],
)
def test_service_sink_stopped_or_failed_logs_no_end(
    last: str, exit_code: int, expected: int
) -> None:
    service = MagicMock()
    sink = ServiceSink("W&B", lambda: service)
    sink.log(10, {last: 0.5})
    sink.close(exit_code)
    assert service.log_end.call_count == expected
    service.finish.assert_called_once_with(exit_code)


@pytest.mark.parametrize("method", ["log", "log_end", "finish"])
def test_service_sink_after_an_error_warns_once_and_sends_nothing(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = MagicMock()
    getattr(service, method).side_effect = OSError(28, "No space left on device")
    with caplog.at_level(logging.WARNING):
        sink = ServiceSink("TensorBoard", lambda: service)
        sink.log(10, {"test/hr@10": 0.5})
        sink.log(20, {"test/hr@10": 0.5})
        sink.close(0)
    (record,) = caplog.records
    reason = "OSError: [Errno 28] No space left on device"
    assert record.message == f"Stopped tracking in TensorBoard: {reason}"
    assert getattr(service, method).call_count == 1
    assert service.finish.call_count == (method == "finish")
