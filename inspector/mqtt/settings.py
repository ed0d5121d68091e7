"""The `[mqtt]` table of station.toml. Reads no file that it names, and needs no MQTT library."""

from pydantic import Field, field_validator, model_validator

from inspector.table import BesideFile, Table

_OWN_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_WILD = frozenset("+#\0")


def _topic_level(level: str | None) -> str | None:
    if level is not None and (not level or _WILD & set(level) or "/" in level):
        raise ValueError("must be one level of a topic: not empty, and without / + #")
    return level


class SparkplugSettings(Table):
    """The station as a Sparkplug B edge node."""

    group: str = Field(title="Group", description="Sparkplug group id: the line or the plant")
    node: str | None = Field(None, title="Node", description="Sparkplug edge node id; absent: the station's name")
    primary_host: str | None = Field(
        None, title="Primary host", description="host id to wait for; absent: nothing is waited for"
    )

    _levels = field_validator("group", "node", "primary_host")(_topic_level)


class MqttSettings(Table):
    """Which broker hears of the station, and how it lets the station in."""

    host: str = Field(min_length=1, title="Host", description="name or address of the broker")
    port: int | None = Field(None, ge=1, le=65535, title="Port", description="absent: 1883, or 8883 with tls")
    tls: bool = Field(False, title="TLS", description="encrypts, and verifies who the broker is")
    ca: BesideFile | None = Field(
        None, title="CA", description="PEM file of the authority that signed the broker's certificate; absent: system's"
    )
    certificate: BesideFile | None = Field(
        None, title="Certificate", description="the station's own, PEM, for brokers that ask"
    )
    private_key: BesideFile | None = Field(
        None, title="Private key", description="of the certificate, PEM, for this user"
    )
    username: str | None = Field(None, min_length=1, title="User name", description="absent: the station gives no name")
    password_file: BesideFile | None = Field(
        None, title="Password", description="file whose first line is the password, readable by this user alone"
    )
    client_id: str | None = Field(
        None, min_length=1, title="Client id", description="unique at the broker; absent: inspector-NAME"
    )
    topic: str = Field("inspector", title="Topic", description="the first levels of all plain topics")
    expiry_s: int | None = Field(
        None,
        ge=1,
        le=0xFFFFFFFF,
        title="Expiry",
        description="a decision that nobody fetched so long goes; absent: never",
    )
    keepalive_s: int = Field(
        10, ge=2, le=3600, title="Keep-alive", description="a broker or a station that is silent this long is lost"
    )
    sparkplug: SparkplugSettings | None = Field(
        None, title="Sparkplug", description="absent: plain MQTT 5 alone is published"
    )

    @field_validator("topic")
    @classmethod
    def _plain_topic(cls, topic: str) -> str:
        if not all(topic.split("/")) or _WILD & set(topic) or topic.startswith(("$", "spBv1.0")):
            raise ValueError("must be levels like plant1/line2: none empty, without + #, and not $... or spBv1.0")
        return topic

    @model_validator(mode="after")
    def _secure(self) -> "MqttSettings":
        if (self.certificate is None) is not (self.private_key is None):
            raise ValueError("certificate and private_key come together: set both, or neither")
        if not self.tls and (self.ca or self.certificate):
            raise ValueError("ca, certificate and private_key are for tls = true: set it, or remove them")
        if self.password_file and not self.username:
            raise ValueError("password_file is for a username: set it too")
        if self.password_file and not self.tls and self.host not in _OWN_MACHINE:
            raise ValueError("a password would cross the network in the clear: set tls = true, or remove password_file")
        return self

    @property
    def served_port(self) -> int:
        """The port, or the protocol's own."""
        return self.port or (8883 if self.tls else 1883)
