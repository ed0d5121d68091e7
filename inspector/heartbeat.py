"""Tells subscribers and the service manager that the loop makes progress. Driven by the loop, never by a timer."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from inspector.bus import Publisher
from inspector.inspection import NO_RECIPE, RecipeId
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
    expose_within_ms: float = 100.0  # of a trigger; later it is another part that stands before the camera
    recipe_id: RecipeId = NO_RECIPE
    model: int = 0  # the bundle's, in a word of 16 bits


class Heartbeat:
    """The process's state, from `starting` over `ready` to `stopped` or `failed`; the way out sets the last one.

    While the camera is away, or another recipe is loaded, the state is `not ready`.
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
        self.changing_to = 0  # number of the recipe that is being loaded

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
        self._service.ready()
        self.take(job)
        self._tell("ready")

    def take(self, job: Job) -> None:
        """This is inspected from now on; the next word says so, and is due at once."""
        self._job, self._next_ns = job, 0
        log.info(
            "recipe %d (%s), revision %d: bundle %s on %s, rejects above %.4g",
            job.recipe_id.number, job.recipe, job.recipe_id.revision, job.bundle, job.engine, job.threshold,
        )  # fmt: skip

    def beat(self, summary: Summary) -> None:
        """Call after a part was decided and published, or the camera answered that none came; nowhere else."""
        self._progress(summary, "ready")

    def away(self, summary: Summary, reason: str) -> None:
        """Call while nothing is inspected and the process lives: the camera is away and comes back by itself, or
        another recipe is being loaded.
        """
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
            recipe_id=job.recipe_id if job else NO_RECIPE,
            model=job.model if job else 0,
            changing_to=self.changing_to,
        )
        self._service.status(f"{state}: {reason or self.alarm or self._summary}")
