"""Services outside mlrec that show runs, such as W&B and TensorBoard, as one kind of sink."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from mlrec.config.metric_names import FINAL_PREFIXES
from mlrec.runtime.redact import scrub

FINISH_AFTER_FAILURE_S = 5.0
"""Seconds that a service gets to take the last metrics of a failed run, while other ranks wait."""

_log = logging.getLogger(__name__)


class Service(Protocol):
    """A run in a service. Every method may raise any error."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""

    def log_end(self, step: int) -> None:
        """Log what a run leaves that has trained to its end, such as recommendations."""

    def finish(self, exit_code: int) -> None:
        """Finish the run; an exit code other than 0 marks it as failed."""


class ServiceSink:
    """A sink of the Tracker on rank 0, for a service.

    A service must not end a training: its first error is logged as a warning, and nothing more is
    sent to it.
    """

    def __init__(self, name: str, begin: Callable[[], Service]) -> None:
        """Start or continue the run in the service.

        Args:
            name: name of the service in warnings.
            begin: returns the run in the service.
        """
        self._name = name
        self._service: Service | None = None
        self._step = 0
        self._is_ranked = False
        self._try(lambda: setattr(self, "_service", begin()))

    def _try(self, action: Callable[[], object]) -> None:
        """Call the service, and stop tracking in it after its first error."""
        try:
            action()
        except Exception as error:  # the services' errors have no common base class
            self._service = None
            reason = scrub(str(error))
            _log.warning("Stopped tracking in %s: %s: %s", self._name, type(error).__name__, reason)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step."""
        service = self._service
        if service is not None:
            self._step = step
            # Final metrics come once, at the end of a run that was not stopped.
            is_final = any(name.startswith(tuple(FINAL_PREFIXES.values())) for name in metrics)
            self._is_ranked = self._is_ranked or is_final
            self._try(lambda: service.log(step, metrics))

    def message(self, text: str) -> None:
        """Ignore a message. Messages are for the terminal."""
        del text

    def close(self, exit_code: int) -> None:
        """Finish the run. After the final ranking the service also gets what the run leaves."""
        service = self._service
        if service is not None and exit_code == 0 and self._is_ranked:
            self._try(lambda: service.log_end(self._step))
        # None after an error at the end of the run
        if self._service is not None:
            self._finish(self._service, exit_code)

    def _finish(self, service: Service, exit_code: int) -> None:
        """Finish the run in the service; after a failure only as long as other ranks can wait."""
        # A daemon, because a thread that hangs in finish must not keep the process alive.
        thread = threading.Thread(
            target=self._try, args=[lambda: service.finish(exit_code)], daemon=True
        )
        thread.start()
        thread.join(FINISH_AFTER_FAILURE_S if exit_code else None)
        if thread.is_alive():
            _log.warning(
                "%s did not take the last metrics within %.0f s; the run ends without them",
                self._name,
                FINISH_AFTER_FAILURE_S,
            )
