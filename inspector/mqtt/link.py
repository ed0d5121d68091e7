"""A connection that comes back: tries, waits a little longer each time, and says once what is wrong."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Self

from inspector.mqtt import MqttError
from inspector.mqtt.connection import Connection
from inspector.mqtt.words import Action, Closed, Event, Leave, Opened

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 15.0

log = logging.getLogger(__name__)


class Link:
    """One speaker's way to the broker; each connection is made anew by `connect`."""

    def __init__(
        self, name: str, connect: Callable[[], Connection], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._connect = connect
        self._clock = clock
        self._connection: Connection | None = None
        self._wait_s = FIRST_WAIT_S
        self._next_try = 0.0
        self._trouble = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def serve(self) -> Sequence[Event]:
        """What has happened since; tries to connect when it is time to."""
        try:
            if self._connection is None:
                self._try()
                return []
            events = self._connection.serve()
        except MqttError as error:
            return self._lost(str(error))
        if any(isinstance(event, Opened) for event in events):
            self._well()
        return events

    def act(self, action: Action) -> Sequence[Event]:
        """Send a message, or leave; what cannot be sent now is lost here: who must not lose it says it again."""
        if isinstance(action, Leave):
            return self._lost("left, as the primary host is offline")
        if self._connection is not None:
            self._connection.publish(action)
        return []

    def close(self) -> None:
        """Leave for good; the broker publishes the last will."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _try(self) -> None:
        if self._clock() >= self._next_try:
            self._connection = self._connect()

    def _well(self) -> None:
        self._wait_s = FIRST_WAIT_S
        self._trouble = ""
        log.info("%s is connected", self._name)

    def _lost(self, trouble: str) -> Sequence[Event]:
        was_connected = self._connection is not None
        self.close()
        # Not all stations of a plant at the same moment.
        self._next_try = self._clock() + self._wait_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        if trouble != self._trouble:
            log.warning("%s: %s", self._name, trouble)
        self._trouble = trouble
        return [Closed()] if was_connected else []
