"""A real broker for tests: mosquitto, started, killed and started again on one port; and a client that hears all."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

PATIENCE_S = 20.0


def until(true: Callable[[], object], what: str = "it does not come true") -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends, what
        time.sleep(0.01)


class Broker:
    """Mosquitto with a configuration of one's own."""

    def __init__(self, folder: Path, *lines: str, listener: str = "allow_anonymous true") -> None:
        found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if found is None:
            pytest.skip("mosquitto is not here: apt install mosquitto")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", listener, "user root", *lines]) + "\n")
        self._program = found
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self._config.with_suffix(".log").open("ab")
        with log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)  # noqa: S603
        until(self._answers, "mosquitto does not start")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
        self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @contextmanager
    def hearing(self, topic: str = "#") -> Iterator["Ear"]:
        """A client that outlives the broker; while a broker is away it hears nothing."""
        ear = Ear(self.port, topic)
        until(lambda: ear.subscribed, "the ear is not let in")
        try:
            yield ear
        finally:
            ear.close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._config.with_suffix(".log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Ear:
    """Everything that was published, in order, by topic."""

    def __init__(self, port: int, topic: str, session_s: int = 0) -> None:
        """With `session_s` the broker keeps what it misses so long; otherwise it gets what comes while it is there."""
        self.heard: list[mqtt.MQTTMessage] = []
        self.subscribed = 0
        self._topic = topic
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "ear", protocol=mqtt.MQTTv5)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = lambda _client, _data, message: self.heard.append(message)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session_s
        self.client.connect_async("127.0.0.1", port, clean_start=not session_s, properties=properties)
        self.client.loop_start()

    def on(self, topic: str) -> list[mqtt.MQTTMessage]:
        return [message for message in self.heard if message.topic == topic]

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(
        self, client: mqtt.Client, _data: object, _flags: mqtt.ConnectFlags, _reason: ReasonCode, _p: Properties | None
    ) -> None:
        client.subscribe(self._topic, qos=1)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: object, _mid: int, reasons: list[ReasonCode], _p: Properties | None
    ) -> None:
        self.subscribed += not reasons[0].is_failure
