"""[mqtt] of station.toml is right, or an error names the key and what to do; no MQTT library is needed."""

from pathlib import Path

import pytest

from inspector.mqtt.settings import MqttSettings
from inspector.station import StationError, mqtt_of
from inspector.station_file import load_station

from .test_station import GOOD, load

TABLE = '[mqtt]\nhost = "broker"\n'


def settings(folder: Path, more: str = "") -> MqttSettings:
    return mqtt_of(load(folder, GOOD + TABLE + more))


def test_the_host_is_enough(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert (found.served_port, found.topic, found.sparkplug) == (1883, "inspector", None)


def test_tls_has_a_port_of_its_own_and_files_are_beside_the_station_file(tmp_path: Path) -> None:
    found = settings(tmp_path, 'tls = true\nca = "ca.pem"\nusername = "line1"\npassword_file = "/etc/password"\n')
    assert (found.served_port, found.ca, found.password_file) == (8883, tmp_path / "ca.pem", Path("/etc/password"))


def test_a_password_on_this_machine_needs_no_tls(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD + '[mqtt]\nhost = "localhost"\nusername = "a"\npassword_file = "b"\n').mqtt
    assert found is not None
    assert found.password_file == tmp_path / "b"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('hots = "b"', "mqtt.hots: is not a known key: did you mean host? (line"),
        ('password = "secret"', "mqtt.password: is not a known key: did you mean password_file?"),
        ('username = "a"\npassword_file = "b"', "mqtt: a password would cross the network in the clear"),
        ('tls = true\npassword_file = "b"', "mqtt: password_file is for a username"),
        ('ca = "ca.pem"', "mqtt: ca, certificate and private_key are for tls = true"),
        ('tls = true\ncertificate = "a"', "mqtt: certificate and private_key come together"),
        ('topic = "a/+"', "mqtt.topic: must be levels like plant1/line2"),
        ('topic = "/a"', "mqtt.topic: must be levels like plant1/line2"),
        ('topic = "spBv1.0"', "mqtt.topic: must be levels like plant1/line2"),
        ("port = 0", "mqtt.port: must be greater than or equal to 1"),
        ("[mqtt.sparkplug]", "mqtt.sparkplug.group: is missing"),
        ('[mqtt.sparkplug]\ngroup = "a/b"', "mqtt.sparkplug.group: must be one level of a topic"),
        ('[mqtt.sparkplug]\ngroup = "a"\nnode = ""', "mqtt.sparkplug.node: must be one level of a topic"),
        ('[mqtt.sparkplug]\ngroup = "a"\nhost = "b"', "mqtt.sparkplug.host: is not a known key"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named(tmp_path: Path, more: str, says: str) -> None:
    with pytest.raises(StationError) as caught:
        settings(tmp_path, more + "\n")
    assert f"{tmp_path / 'station.toml'}: {says}" in str(caught.value)


def test_a_station_without_a_broker_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(StationError, match=r"line1 reports to no broker: add \[mqtt\]"):
        mqtt_of(load(tmp_path, GOOD))


def test_the_table_in_the_shipped_station_file_is_right_once_it_is_uncommented(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "station.toml").read_text()
    start = text.index("# [mqtt]")
    table = [line.removeprefix("# ") for line in text[start:].split("\n\n")[0].splitlines()]
    (tmp_path / "station.toml").write_text(text + "\n" + "\n".join(table) + "\n")
    found = mqtt_of(load_station(tmp_path / "station.toml"))
    assert found.sparkplug is not None
