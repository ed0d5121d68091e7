"""Tells subscribers and the service manager that the loop makes progress. Driven by the loop, never by a timer."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from inspector.bus import Publisher
from inspector.messages import State
from inspector.service import Service
from inspector.summary import Summary

PERIOD_NS = 200_000_000  # subscribers call it stale after a second

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What is being inspected, by what, and how strictly."""

    recipe: str
    bundle: str
    engine: str
    threshold: float
    deadline_ms: float


class Heartbeat:
    """The process's state, from `starting` over `ready` to `stopped` or `failed`; the way out sets the last one.

    While the camera is away the state is `not ready`.
    """

    def __init__(self, publisher: Publisher, service: Service, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._publisher = publisher
        self._service = service
        self._clock = clock
        self._job: Job | None = None
        self._summary = Summary()
        self._next_ns = 0
        self._state: State = "starting"
        self.alarm = ""  # what somebody must see to while parts are inspected

    def __enter__(self) -> Self:
        self._tell("starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._service.stopping()
        if error is None:
            self._tell("stopped")
        else:
            self._tell("failed", f"{error}" or type(error).__name__)

    def ready(self, job: Job) -> None:
        """Say that parts are inspected from now on."""
        self._job = job
        self._service.ready()
        self._tell("ready")
        log.info(
            "ready: recipe %s, bundle %s on %s, rejects above %.4g", job.recipe, job.bundle, job.engine, job.threshold
        )

    def beat(self, summary: Summary) -> None:
        """Call after a part was decided and published, or the camera answered that none came; nowhere else."""
        self._progress(summary, "ready")

    def away(self, summary: Summary, reason: str) -> None:
        """Call while the camera is away and comes back by itself: the process lives, and nothing is inspected."""
        self._progress(summary, "not ready", reason)

    def _progress(self, summary: Summary, state: State, reason: str = "") -> None:
        self._summary = summary
        self._service.alive()
        if state != self._state or self._clock() >= self._next_ns:
            self._tell(state, reason)

    def _tell(self, state: State, reason: str = "") -> None:
        self._state, self._next_ns = state, self._clock() + PERIOD_NS
        job, last = self._job, self._summary.last
        self._publisher.send_status(
            state,
            reason=reason,
            recipe=job.recipe if job else "",
            bundle=job.bundle if job else "",
            engine=job.engine if job else "",
            counts=self._summary.counts,
            publish_ms=last.publish_ms if last else None,
            alarm=self.alarm,
        )
        self._service.status(f"{state}: {reason or self.alarm or self._summary}")
