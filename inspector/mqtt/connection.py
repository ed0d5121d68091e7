"""One connection to an MQTT 5 broker, from CONNECT to its end, over paho. Knows topics and bytes, no inspection.

A connection never comes back: the next one is another client. So each CONNECT has a last will of its own, which
paho's own reconnecting cannot give it, and nothing of an old session is sent again behind the journal's back. No thread
is started: what fails is raised in `serve`, where paho's thread would end in silence.
"""

import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from inspector.mqtt import MqttError
from inspector.mqtt.settings import MqttSettings
from inspector.mqtt.words import Acknowledged, Event, Heard, Message, Opened

CONNECT_S = 3.0  # for TCP and TLS, each; nothing else happens in the process meanwhile
WELCOME_S = 5.0  # from there to the broker's yes
CLOSE_S = 1.0
RECEIVE_MAXIMUM = 65535  # of a broker that names none


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the broker and what to show it, all files read."""

    host: str
    port: int
    keepalive_s: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def load_access(settings: MqttSettings) -> Access:
    """Read the files that the settings name.

    Raises:
        MqttError: one cannot be read or used; the text names its key.
    """
    return Access(
        settings.host, settings.served_port, settings.keepalive_s, settings.username, _password(settings),
        _tls(settings) if settings.tls else None,
    )  # fmt: skip


class Connection:
    """One client's session; everything happens in the caller's thread."""

    def __init__(
        self,
        access: Access,
        client_id: str,
        will: Message | None,
        subscriptions: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect, which may take a few seconds; the broker's yes comes in `serve`.

        Raises:
            MqttError: the broker cannot be reached, or not believed.
        """
        self._access = access
        self._client_id = client_id
        self._subscriptions = subscriptions
        self._clock = clock
        self._patience_ends = clock() + WELCOME_S
        self._events: list[Event] = []
        self._is_open = False
        self._ended = ""  # why
        self._waiting: deque[Message] = deque()  # of QoS 1
        self._in_flight: dict[int, Message] = {}  # by paho's number
        self._receive_maximum = RECEIVE_MAXIMUM
        self.limits = ""  # what the broker said of itself
        self._client = self._make_client(will)
        if trouble := self._connect():
            raise MqttError(f"{access} cannot be reached {trouble}")

    def serve(self, timeout_s: float = 0.0) -> list[Event]:
        """What has happened since; waits for it at most so long.

        Raises:
            MqttError: the connection is over, or the broker refuses something.
        """
        code = self._client.loop(timeout_s)
        self._send_waiting()
        if self._events:
            events, self._events = self._events, []
            return events
        if not self._is_open and self._clock() > self._patience_ends:
            self._end(f"does not answer in {WELCOME_S:.0f} s: is it an MQTT 5 broker?")
        if code != mqtt.MQTT_ERR_SUCCESS:
            self._end(f"connection lost ({mqtt.error_string(code)})")
        if self._ended:
            raise MqttError(f"{self._access}: {self._ended}")
        return []

    def publish(self, message: Message) -> None:
        """Send it; one of QoS 1 waits while the broker has as many as it takes at a time."""
        if message.qos:
            self._waiting.append(message)
            self._send_waiting()
        else:
            self._client.publish(message.topic, message.payload, 0, message.retain, _properties(message))

    def close(self) -> None:
        """Leave; the broker publishes the last will (MQTT 5, reason 0x04), as at any other end."""
        self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
        ends = self._clock() + CLOSE_S
        while self._client.socket() is not None and self._clock() < ends:
            self._client.loop(0.05)

    def _connect(self) -> str:
        """Why it cannot be done, or empty; the error itself would hold the socket that paho does not close."""
        access = self._access
        try:
            self._client.connect(access.host, access.port, keepalive=access.keepalive_s, clean_start=True)
        except OSError as error:
            return f"({error}): {_advice(error)}"
        return ""

    def _make_client(self, will: Message | None) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=mqtt.MQTTv5)
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages = 0  # no limit: paho's does not know the broker's, which is kept here
        if will:
            client.will_set(will.topic, will.payload, will.qos, will.retain, _properties(will, PacketTypes.WILLMESSAGE))
        if self._access.tls:
            client.tls_set_context(self._access.tls)
        if self._access.username is not None:
            client.username_pw_set(self._access.username, self._access.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _send_waiting(self) -> None:
        while self._is_open and self._waiting and len(self._in_flight) < self._receive_maximum:
            message = self._waiting.popleft()
            sent = self._client.publish(message.topic, message.payload, 1, message.retain, _properties(message))
            self._in_flight[sent.mid] = message

    def _end(self, reason: str) -> None:
        self._ended = self._ended or reason

    def _open(self) -> None:
        self._is_open = True
        self._events.append(Opened())

    def _on_connect(
        self, client: mqtt.Client, _data: object, _flags: mqtt.ConnectFlags, reason: ReasonCode, said: Properties | None
    ) -> None:
        if reason.is_failure:
            self._end(f"refuses the station ({reason}): correct mqtt.username, its password or mqtt.client_id")
            return
        self._receive_maximum = getattr(said, "ReceiveMaximum", RECEIVE_MAXIMUM)
        self.limits = str(said or "")
        if self._subscriptions:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._subscriptions])
        else:
            self._open()

    def _on_subscribe(
        self, _client: mqtt.Client, _data: object, _mid: int, reasons: list[ReasonCode], _said: Properties | None
    ) -> None:
        for topic, reason in zip(self._subscriptions, reasons, strict=True):
            if reason.is_failure:
                self._end(f"refuses the subscription to {topic} ({reason}): allow it at the broker")
        if not self._ended:
            self._open()

    def _on_publish(
        self, _client: mqtt.Client, _data: object, mid: int, reason: ReasonCode, _said: Properties | None
    ) -> None:
        message = self._in_flight.pop(mid, None)
        if message is None:
            return  # of QoS 0: paho says that it is sent
        if reason.is_failure:  # an acknowledgement that says no
            self._end(f"refuses {message.topic} ({reason}): allow the station to publish there")
        else:
            self._events.append(Acknowledged(message))

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self._events.append(Heard(Message(message.topic, bytes(message.payload), retain=message.retain)))

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: object,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _said: Properties | None,
    ) -> None:
        by = "the broker ends it" if flags.is_disconnect_packet_from_server else "connection lost"
        again = f"if it happens again and again: does another client call itself {self._client_id}?"
        self._end(f"{by} ({reason}); {again}")


def _properties(message: Message, kind: int = PacketTypes.PUBLISH) -> Properties:
    properties = Properties(kind)  # type: ignore[no-untyped-call]
    if message.about:
        properties.UserProperty = list(message.about)
    if message.content_type:
        properties.ContentType = message.content_type
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    return properties


def _password(settings: MqttSettings) -> str | None:
    path = settings.password_file
    if path is None:
        return None
    try:
        if path.stat().st_mode & 0o077:
            raise MqttError(
                f"{path} can be read by others: chmod 600 it, and take another password (mqtt.password_file)"
            )
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MqttError(f"{path} cannot be read ({error}): correct mqtt.password_file") from error
    if not lines or not lines[0]:
        raise MqttError(f"{path} has no password in its first line: correct mqtt.password_file")
    return lines[0]


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.private_key)
    except OSError as error:  # an SSLError is one
        files = "mqtt.ca, mqtt.certificate or mqtt.private_key"
        raise MqttError(f"TLS has no usable files ({error}): correct {files}") from error
    return context


def _advice(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "correct mqtt.ca, or mqtt.host to the name in the broker's certificate"
    if isinstance(error, ssl.SSLError | ConnectionResetError):
        return "is the port one for TLS? correct mqtt.host, mqtt.port and mqtt.tls, or give mqtt.certificate"
    return "is the broker running? correct mqtt.host and mqtt.port"
