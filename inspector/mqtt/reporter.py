"""The MQTT process: follows a station's journal and status, and tells the broker. It wires speakers to sockets.

It only reads from the station. A broker that is slow, away or wrong costs the line nothing: decisions wait in the
journal.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec

from inspector.bus import Subscriber
from inspector.decisions import DecisionFollower
from inspector.messages import Status
from inspector.mqtt.connection import Connection, load_access
from inspector.mqtt.link import Link
from inspector.mqtt.plain import PlainSpeaker
from inspector.mqtt.progress import ProgressFile
from inspector.mqtt.sparkplug import NUMBERS, SparkplugSpeaker
from inspector.mqtt.words import Action, Event, Speaker, StationState, state_of
from inspector.station import Station, mqtt_of

POLL_MS = 20
SILENT_S = 1.0  # without a status: the station is not there
TELL_S = 1.0  # counters no more often than this; a change of state at once

log = logging.getLogger(__name__)


class Reporter:
    """One station and one broker; everything happens in one thread."""

    def __init__(
        self, station: Station, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        """Make the reporter of a station.

        Raises:
            StationError: it reports to no broker.
            MqttError: a file that [mqtt] names cannot be used.
        """
        self._station = station
        self._settings = mqtt_of(station)
        self._access = load_access(self._settings)
        self._clock = clock
        self._wall = wall
        self._stack = ExitStack()
        self._file = ProgressFile(progress_path(station))
        self._subscriber = Subscriber(station.bus, ("status",), curve=station.curve)
        self._state = self._told = StationState(station=station.name, state="silent")
        self._heard_at = self._told_at = clock()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            reported = self._file.progress.reported
            follower = DecisionFollower(self._station.bus.decision, after=reported, curve=self._station.curve)
            self._follower = stack.enter_context(follower)
            stack.enter_context(self._subscriber)
            self._plain = PlainSpeaker(self._settings.topic, self._station.name, self._settings.expiry_s, reported)
            self._speakers = [(each, stack.enter_context(self._link(each))) for each in self._make_speakers()]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(self, stop: Callable[[], bool]) -> None:
        """Report until asked to stop.

        Raises:
            MessageError: the station speaks another version.
            OSError: the progress cannot be written.
        """
        while not stop():
            for speaker, link in self._speakers:  # first: into a connection that is known to be over nothing is said
                for event in link.serve():
                    _answer(speaker, link, event)
            self._keep_progress()
            self._take_state()
            self._take_decisions()

    def _make_speakers(self) -> list[Speaker]:
        sparkplug = self._settings.sparkplug
        if sparkplug is None:
            return [self._plain]
        node = sparkplug.node or self._station.name
        state, host = self._state, sparkplug.primary_host
        return [
            self._plain,
            SparkplugSpeaker(sparkplug.group, node, host, state, self._next_bd_seq, self._wall),
        ]

    def _link(self, speaker: Speaker) -> Link:
        client_id = client_id_of(self._station) + ("" if speaker is self._plain else "-sparkplug")
        log.info("reports to %s as %s", self._access, client_id)
        return Link(
            client_id,
            lambda: Connection(self._access, client_id, speaker.will(), speaker.subscriptions),
            self._clock,
        )

    def _take_decisions(self) -> None:
        decision = self._follower.receive(POLL_MS)
        while decision is not None:
            for speaker, link in self._speakers:
                for action in speaker.decide(decision):
                    _act(speaker, link, action)
            decision = self._follower.receive(0)

    def _take_state(self) -> None:
        now = self._clock()
        while (message := self._subscriber.receive(0)) is not None:
            if isinstance(message, Status):
                self._state, self._heard_at = state_of(message), now
        if now - self._heard_at > SILENT_S:
            self._state = msgspec.structs.replace(self._state, state="silent")
        urgent = (self._state.state, self._state.alarm) != (self._told.state, self._told.alarm)
        if self._state != self._told and (urgent or now - self._told_at >= TELL_S):
            self._told, self._told_at = self._state, now
            for speaker, link in self._speakers:
                for action in speaker.tell(self._state):
                    _act(speaker, link, action)

    def _keep_progress(self) -> None:
        """On disk first, then told to the station; a crash between has decisions said twice, and none lost."""
        known, received = self._file.progress.reported, self._follower.received
        if received < known:
            given_up = self._plain.restart(received)
            log.warning("the journal is another one: %d decisions of the old one are not reported", given_up)
        if self._plain.reported < 0:
            self._plain.restart(received)  # the first start ever: from now on
        reported = self._plain.reported
        if reported != known:
            self._file.keep(msgspec.structs.replace(self._file.progress, reported=reported))
            self._follower.acknowledge(reported)

    def _next_bd_seq(self) -> int:
        bd_seq = (self._file.progress.bd_seq + 1) % NUMBERS
        self._file.keep(msgspec.structs.replace(self._file.progress, bd_seq=bd_seq))
        return bd_seq


def progress_path(station: Station) -> Path:
    """The file that remembers how far a station was reported: beside its journal."""
    return station.journal.with_name(f"{station.journal.name}.mqtt")


def client_id_of(station: Station) -> str:
    """The station's name at the broker."""
    return mqtt_of(station).client_id or f"inspector-{station.name}"


def _answer(speaker: Speaker, link: Link, event: Event) -> None:
    for action in speaker.hear(event):
        _act(speaker, link, action)


def _act(speaker: Speaker, link: Link, action: Action) -> None:
    for event in link.act(action):
        _answer(speaker, link, event)
