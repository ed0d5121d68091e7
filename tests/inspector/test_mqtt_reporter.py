"""The MQTT process against a real broker that is stopped, hung, killed and says no. No decision is lost."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed: pip install -e '.[mqtt]'")
pytest.importorskip("google.protobuf", reason="protobuf is not installed: pip install -e '.[mqtt]'")


from inspector.bus import Publisher
from inspector.cli import app
from inspector.decisions import DecisionServer
from inspector.inspection import Verdict
from inspector.journal import Journal
from inspector.mqtt import MqttError, link
from inspector.mqtt.connection import Access, Connection
from inspector.mqtt.payload import Payload, decode
from inspector.mqtt.reporter import Reporter, progress_path
from inspector.mqtt.words import Acknowledged, Message
from inspector.station import Bus
from inspector.station_file import load_station

from .mqtt_broker import PATIENCE_S, Broker, Ear, until
from .test_journal import result

DOCS = Path(__file__).parents[2] / "docs" / "mqtt.md"
DECISION, STATUS = "inspector/line1/decision", "inspector/line1/status"
runner = CliRunner()


class Line:
    """A station without a camera: journal, decisions and status, served while a reporter runs."""

    def __init__(self, folder: Path, bus: Bus, port: int, more: str = "") -> None:
        endpoints = ", ".join(f'{name} = "{getattr(bus, name)}"' for name in Bus.model_fields)
        self.file = folder / "station.toml"
        self.file.write_text(
            f"""
            name = "line1"
            deadline_ms = 2000
            camera = {{ kind = "simulator" }}
            recipe = {{ name = "tray", bundle = "tiny.bundle" }}
            bus = {{ {endpoints} }}
            journal = "journal.sqlite"
            [mqtt]
            host = "127.0.0.1"
            port = {port}
            {more}
            """
        )
        self.station = load_station(self.file)
        self.parts = 0
        self._stack = ExitStack()
        journal = self.station.journal
        self.journal = self._stack.enter_context(Journal(journal, reserve_bytes=4096))
        self.server = self._stack.enter_context(DecisionServer(bus.decision, journal, "b"))
        self.publisher = self._stack.enter_context(Publisher(bus, "line1"))

    def decide(self, count: int = 1) -> None:
        for _ in range(count):
            self.parts += 1
            found = result(self.parts)
            number = self.journal.append(found, 5.0)
            assert number == self.parts
            self.server.send(number, found)

    def serve(self) -> None:
        self.server.serve()
        self.publisher.send_status("ready", recipe="tray", counts={Verdict.ACCEPT: self.parts})

    def run(self, reporter: Reporter, done: Callable[[], object], *, silent: bool = False) -> None:
        """Run the reporter, and the station beside it unless it is silent, until something is so."""
        ends = time.monotonic() + PATIENCE_S

        def stop() -> bool:
            assert time.monotonic() < ends, "it does not come true"
            if not silent:
                self.serve()
            return bool(done())

        reporter.run(stop)

    def run_for(self, reporter: Reporter, seconds: float) -> None:
        ends = time.monotonic() + seconds
        self.run(reporter, lambda: time.monotonic() > ends)

    def reported(self) -> int:
        path = progress_path(self.station)
        return int(json.loads(path.read_text())["reported"]) if path.exists() else -1

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(link, "LONGEST_WAIT_S", 0.2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Broker(folder, "persistence true", f"persistence_location {folder}/", "max_queued_messages 0")
    made.start()
    yield made
    made.stop(signal.SIGKILL)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Brokers with lines of configuration of their own."""
    with ExitStack() as stack:

        def make(*lines: str, listener: str = "allow_anonymous true") -> Broker:
            folder = tmp_path / "other broker"
            folder.mkdir()
            made = Broker(folder, *lines, listener=listener)
            made.start()
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def lines(tmp_path: Path, bus: Bus) -> Iterator[Callable[..., Line]]:
    with ExitStack() as stack:

        def make(broker: Broker, more: str = "") -> Line:
            made = Line(tmp_path, bus, broker.port, more)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def line(lines: Callable[..., Line], broker: Broker) -> Line:
    return lines(broker)


@pytest.fixture
def edge(lines: Callable[..., Line], broker: Broker) -> Line:
    return lines(broker, '[mqtt.sparkplug]\ngroup = "plant"\nprimary_host = "scada"')


def ids(ear: Ear) -> list[int]:
    return [json.loads(message.payload)["id"] for message in ear.on(DECISION)]


def states(ear: Ear) -> list[str]:
    return [json.loads(message.payload)["state"] for message in ear.on(STATUS)]


def sparkplug(ear: Ear) -> list[tuple[str, Payload]]:
    """What the edge node said, in order; nobody else says any of it."""
    said = tuple(f"spBv1.0/plant/{kind}/" for kind in ("NBIRTH", "NDATA", "NDEATH"))
    found = [message for message in ear.heard if message.topic.startswith(said)]
    return [(message.topic.split("/")[2], decode(message.payload)) for message in found]


def kinds(ear: Ear) -> list[str]:
    return [kind for kind, _ in sparkplug(ear)]


def value(payload: Payload, name: str) -> object:
    return {metric.name: metric.value for metric in payload.metrics}[name]


def test_a_first_start_reports_from_now_on_and_a_second_one_from_where_the_first_was(
    line: Line, broker: Broker
) -> None:
    line.decide(5)
    with broker.hearing() as ear:
        with Reporter(line.station) as reporter:
            line.run(reporter, lambda: line.reported() == 5)
            line.decide(3)
            line.run(reporter, lambda: line.reported() == 8)
        line.decide(3)
        with Reporter(line.station) as reporter:
            line.run(reporter, lambda: line.reported() == 11)
        until(lambda: len(ids(ear)) == 6)
        assert ids(ear) == [6, 7, 8, 9, 10, 11]


def test_a_first_start_that_meets_no_decision_still_loses_none_after_it(line: Line, broker: Broker) -> None:
    line.decide(5)
    with Reporter(line.station) as reporter:
        line.run(reporter, lambda: line.reported() == 5)
    line.decide(2)
    with broker.hearing() as ear, Reporter(line.station) as reporter:
        line.run(reporter, lambda: ids(ear) == [6, 7])


def test_decisions_are_json_with_properties_to_sort_them_by(line: Line, broker: Broker) -> None:
    with broker.hearing() as ear, Reporter(line.station) as reporter:
        line.run(reporter, lambda: line.reported() == 0)
        line.decide()
        line.run(reporter, lambda: ids(ear))
        (message,) = ear.on(DECISION)
        assert json.loads(message.payload)["result"]["part_id"] == "p1"
        assert not message.retain
        assert message.properties is not None
        assert message.properties.UserProperty == [("id", "1"), ("verdict", "accept"), ("cause", "none")]
        assert message.properties.ContentType == "application/json"


def test_a_broker_that_hangs_acknowledges_nothing_and_nothing_counts_as_reported(line: Line, broker: Broker) -> None:
    with broker.hearing() as ear, Reporter(line.station) as reporter:
        line.run(reporter, lambda: "ready" in states(ear))
        broker.signal(signal.SIGSTOP)
        line.decide(10)
        line.run_for(reporter, 0.5)
        assert line.reported() == 0
        follower = next(iter(line.server._followers.values()))
        assert (follower.sent, follower.acknowledged) == (10, 0)
        broker.signal(signal.SIGCONT)
        line.run(reporter, lambda: line.reported() == 10)
        assert follower.acknowledged in {0, 10}  # the station hears of it in its next round
        until(lambda: ids(ear) == list(range(1, 11)))


def test_no_decision_is_lost_over_restarts_of_the_broker_and_connections_that_break(line: Line, broker: Broker) -> None:
    """A subscriber whose session the broker keeps; what it gets twice it knows by the id."""
    dice, intruder = random.Random(5), Access("127.0.0.1", broker.port, 10)  # noqa: S311
    ear = Ear(broker.port, "inspector/#", session_s=600)
    until(lambda: ear.subscribed)
    with Reporter(line.station) as reporter:
        line.run(reporter, lambda: line.reported() == 0)
        for cut in range(12):
            line.decide(dice.randrange(1, 150))
            line.run_for(reporter, dice.random() / 20)
            if cut % 3 == 0:
                broker.stop()
                line.decide(dice.randrange(1, 100))
                line.run_for(reporter, 0.05)
                broker.start()
            else:  # the broker throws the first of two clients of one id out
                Connection(intruder, "inspector-line1", None, ()).serve(0.1)
        line.run(reporter, lambda: line.reported() == line.parts)
        until(lambda: len(set(ids(ear))) == line.parts, "decisions are lost")
        first_seen = list(dict.fromkeys(ids(ear)))
        assert first_seen == list(range(1, line.parts + 1))
    ear.close()


def test_a_message_that_the_broker_refuses_is_not_reported(
    brokers: Callable[..., Broker], lines: Callable[..., Line], tmp_path: Path
) -> None:
    """Its acknowledgement says no: mosquitto's access list allows all but decisions."""
    rules = access_list(tmp_path, "topic read #", "topic write inspector/line1/status")
    strict = brokers(f"acl_file {rules}")
    line = lines(strict)
    with Reporter(line.station) as reporter:
        line.run(reporter, lambda: line.reported() == 0)
        line.decide()
        line.run_for(reporter, 1.0)
        assert line.reported() == 0
        access_list(tmp_path, "topic read #", "topic write inspector/line1/#")
        strict.stop()
        strict.start()
        line.run(reporter, lambda: line.reported() == 1)


def test_the_state_is_kept_by_the_broker_and_says_when_the_station_is_silent_or_nobody_is_there(
    line: Line, broker: Broker
) -> None:
    with broker.hearing() as ear:
        with Reporter(line.station) as reporter:
            line.run(reporter, lambda: "ready" in states(ear))
            line.run(reporter, lambda: states(ear)[-1] == "silent", silent=True)
            line.run(reporter, lambda: states(ear)[-1] == "ready")
        until(lambda: states(ear)[-1] == "offline")
    with broker.hearing() as late:
        until(lambda: states(late) == ["offline"])
        assert late.heard[0].retain


def test_a_process_that_is_killed_is_offline_and_dead_and_the_next_one_goes_on(edge: Line, broker: Broker) -> None:
    command = [sys.executable, "-m", "inspector.cli", "mqtt", "--station", str(edge.file)]

    def served(true: Callable[[], object]) -> Callable[[], object]:
        return lambda: (edge.serve(), true())[1]

    with broker.hearing() as ear:
        ear.say("spBv1.0/STATE/scada", b'{"online": true, "timestamp": 1}', retain=True)
        with subprocess.Popen(command) as running:  # noqa: S603 - this interpreter
            try:
                until(served(lambda: "NBIRTH" in kinds(ear) and edge.reported() == 0))
                edge.decide(3)
                until(served(lambda: edge.reported() == 3 and kinds(ear).count("NDATA") >= 3))
            finally:
                os.kill(running.pid, signal.SIGKILL)
        until(lambda: kinds(ear)[-1] == "NDEATH" and states(ear)[-1] == "offline")
        birth = next(payload for kind, payload in sparkplug(ear) if kind == "NBIRTH")
        assert value(sparkplug(ear)[-1][1], "bdSeq") == value(birth, "bdSeq") == 0
        edge.decide(2)
        with subprocess.Popen(command) as running:  # noqa: S603 - this interpreter
            try:
                until(served(lambda: edge.reported() == 5 and kinds(ear).count("NBIRTH") == 2))
            finally:
                running.terminate()
        assert running.returncode == 0
        until(lambda: kinds(ear)[-1] == "NDEATH" and states(ear)[-1] == "offline")
        assert value(sparkplug(ear)[-1][1], "bdSeq") == 1
        assert sorted(set(ids(ear))) == [1, 2, 3, 4, 5]


def test_an_edge_node_is_born_with_its_host_and_again_when_asked_and_dies_with_its_host(
    edge: Line, broker: Broker
) -> None:
    with broker.hearing() as ear:
        with Reporter(edge.station) as reporter:
            edge.run(reporter, lambda: edge.reported() == 0)
            edge.decide()
            edge.run_for(reporter, 0.3)
            assert kinds(ear) == []
            ear.say("spBv1.0/STATE/scada", b'{"online": true, "timestamp": 5}', retain=True)
            edge.run(reporter, lambda: "NBIRTH" in kinds(ear))
            rebirth = bytes.fromhex("121a 0a14 4e6f646520436f6e74726f6c2f52656269727468 200b 7001".replace(" ", ""))
            ear.say("spBv1.0/plant/NCMD/line1", rebirth)
            edge.run(reporter, lambda: kinds(ear).count("NBIRTH") == 2)
            edge.decide()
            edge.run(reporter, lambda: edge.reported() == 2)
            until(lambda: 2 in _decided(ear))
            ear.say("spBv1.0/STATE/scada", b'{"online": false, "timestamp": 6}', retain=True)
            edge.run(reporter, lambda: kinds(ear)[-1] == "NDEATH")
            edge.run_for(reporter, 0.5)
            assert kinds(ear).count("NBIRTH") == 2
            ear.say("spBv1.0/STATE/scada", b'{"online": true, "timestamp": 7}', retain=True)
            edge.run(reporter, lambda: kinds(ear).count("NBIRTH") == 3)
        until(lambda: kinds(ear)[-1] == "NDEATH")
        _numbers_are_right(sparkplug(ear))
        assert [value(payload, "bdSeq") for kind, payload in sparkplug(ear) if kind != "NDATA"] == [0, 0, 0, 1, 1]


def test_what_was_decided_while_the_broker_was_away_comes_after_the_birth_as_historical(
    lines: Callable[..., Line], broker: Broker
) -> None:
    line = lines(broker, '[mqtt.sparkplug]\ngroup = "plant"')
    with broker.hearing() as ear, Reporter(line.station) as reporter:
        line.run(reporter, lambda: "NBIRTH" in kinds(ear))
        broker.stop()
        line.run_for(reporter, 0.2)
        line.decide(3)
        line.run_for(reporter, 0.2)
        ear.heard.clear()
        ear.subscribed = 0
        broker.start()
        until(lambda: ear.subscribed)
        line.run(reporter, lambda: len(_decided(ear)) == 3)
        line.decide()
        line.run(reporter, lambda: len(_decided(ear)) == 4)
        said = [payload for kind, payload in sparkplug(ear) if kind == "NDATA" and "Decision/Id" in _names(payload)]
        assert [payload.metrics[0].historical for payload in said] == [True, True, True, False]
        assert _decided(ear) == [1, 2, 3, 4]
        births = [payload for kind, payload in sparkplug(ear) if kind == "NBIRTH"]
        assert [value(birth, "Decision/Id") for birth in births] == [3]


def test_two_processes_cannot_report_one_station(line: Line) -> None:
    says = "another `inspector mqtt` reports this station"
    with Reporter(line.station), pytest.raises(MqttError, match=says), Reporter(line.station):
        pass


def test_another_journal_is_begun_where_it_is(line: Line, broker: Broker) -> None:
    progress_path(line.station).write_text('{"reported": 500, "bd_seq": 3}')
    line.decide(2)
    with broker.hearing() as ear, Reporter(line.station) as reporter:
        line.run(reporter, lambda: line.reported() == 2)
        line.decide()
        line.run(reporter, lambda: line.reported() == 3)
        until(lambda: ids(ear) == [3])


def test_a_damaged_progress_file_says_what_to_do(line: Line) -> None:
    progress_path(line.station).write_text('{"reported": ')
    with pytest.raises(MqttError, match="remove it to report from now on"), Reporter(line.station):
        pass


def test_no_more_is_in_flight_than_the_broker_takes(brokers: Callable[..., Broker]) -> None:
    narrow = brokers("max_inflight_messages 3")
    connection = Connection(Access("127.0.0.1", narrow.port, 10), "x", None, ())
    acknowledged, most = 0, 0
    for number in range(50):
        connection.publish(Message("a", b"", qos=1, decision=number))
    while acknowledged < 50:
        acknowledged += sum(isinstance(event, Acknowledged) for event in connection.serve(1.0))
        most = max(most, len(connection._in_flight))
    assert most == 3
    connection.close()


def test_check_says_what_the_broker_says(edge: Line, broker: Broker) -> None:
    command = ["mqtt", "check", "--station", str(edge.file)]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f"mqtt://127.0.0.1:{broker.port}, lets inspector-line1-check in" in done.stdout
    assert "ReceiveMaximum : 20" in done.stdout
    assert "none kept: inspector mqtt has not run yet" in done.stdout
    assert "scada has never said anything" in done.stdout
    with broker.hearing() as ear, Reporter(edge.station) as reporter:
        ear.say("spBv1.0/STATE/scada", b'{"online": true, "timestamp": 1}', retain=True)
        edge.run(reporter, lambda: "ready" in states(ear))
        done = runner.invoke(app, command)
        assert "ready, 0 parts" in done.stdout
        assert "scada is online" in done.stdout
    broker.stop()
    done = runner.invoke(app, command)
    assert done.exit_code == 2
    assert "cannot be reached" in done.stderr
    assert "is the broker running? correct mqtt.host and mqtt.port" in done.stderr


def test_check_says_when_publishing_is_refused(
    brokers: Callable[..., Broker], lines: Callable[..., Line], tmp_path: Path
) -> None:
    strict = brokers(f"acl_file {access_list(tmp_path, 'topic read #')}")
    done = runner.invoke(app, ["mqtt", "check", "--station", str(lines(strict).file)])
    assert done.exit_code == 2
    assert "refuses inspector/line1/check (Not authorized): allow the station to publish there" in done.stderr


def test_the_subscription_of_the_documentation_misses_nothing_while_it_is_away(
    line: Line, broker: Broker, tmp_path: Path
) -> None:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto_sub is not here: apt install mosquitto-clients")
    (command,) = re.findall(r"```sh\n# mqtt client: mosquitto_sub\n(.*?)\n```", DOCS.read_text(), re.DOTALL)
    shown = tmp_path / "shown"
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(broker.port)}

    def seen() -> list[int]:
        pairs = [text.split(" ", 1) for text in shown.read_text().splitlines()]
        return [json.loads(payload)["id"] for topic, payload in pairs if topic == DECISION]

    with shown.open("w") as file, Reporter(line.station) as reporter:
        for upto in (2, 5):
            with subprocess.Popen(["sh", "-c", f"exec {command}"], env=environment, stdout=file) as client:  # noqa: S603, S607
                try:
                    line.run(reporter, lambda: "ready" in shown.read_text())
                    line.decide(2)
                    line.run(reporter, lambda upto=upto: len(seen()) == upto)  # type: ignore[misc]
                finally:
                    client.terminate()
            line.decide()
            line.run(reporter, lambda: line.reported() == line.parts)
    assert seen() == [1, 2, 3, 4, 5]


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """A folder with an authority, a broker's certificate for 127.0.0.1, and the password of `line1`."""
    pytest.importorskip("cryptography", reason="cryptography is not installed: pip install -e '.[opcua]'")
    from .mqtt_tls import make_files

    make_files(tmp_path / "tls", "correct horse")
    return tmp_path / "tls"


def tls_listener(folder: Path) -> str:
    certificate = f"certfile {folder / 'broker.pem'}\nkeyfile {folder / 'broker.key'}"
    return f"{certificate}\nallow_anonymous false\npassword_file {folder / 'users'}"


SECURE = 'tls = true\nca = "tls/ca.pem"\nusername = "line1"\npassword_file = "tls/password"'


def test_decisions_cross_an_encrypted_connection_with_a_password(
    tls: Path, brokers: Callable[..., Broker], lines: Callable[..., Line]
) -> None:
    line = lines(brokers(listener=tls_listener(tls)), SECURE)
    with Reporter(line.station) as reporter:
        line.run(reporter, lambda: line.reported() == 0)
        line.decide(2)
        line.run(reporter, lambda: line.reported() == 2)


@pytest.mark.filterwarnings("ignore:.*SSLSocket")  # paho leaves the socket of a failed handshake to the collector
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("password", "refuses the station (Not authorized): correct mqtt.username, its password or mqtt.client_id"),
        ("ca", "correct mqtt.ca, or mqtt.host to the name in the broker's certificate"),
        ("mode", "can be read by others: chmod 600 it"),
        ("empty", "has no password in its first line"),
        ("none", "cannot be read"),
        ("pem", "TLS has no usable files"),
    ],
)
def test_what_is_wrong_with_the_security_is_said(
    tls: Path, brokers: Callable[..., Broker], lines: Callable[..., Line], wrong: str, says: str
) -> None:
    line = lines(brokers(listener=tls_listener(tls)), SECURE)
    password = tls / "password"
    match wrong:
        case "password":
            password.write_text("wrong horse\n")
        case "ca":
            (tls / "ca.pem").write_bytes((tls / "other-ca.pem").read_bytes())
        case "mode":
            password.chmod(0o640)
        case "empty":
            password.write_text("\n")
        case "none":
            password.unlink()
        case "pem":
            (tls / "ca.pem").write_text("none")
    done = runner.invoke(app, ["mqtt", "check", "--station", str(line.file)])
    assert done.exit_code == 2, done.output
    assert says in done.stderr
    assert "horse" not in done.output


@pytest.mark.filterwarnings("ignore:.*SSLSocket")
def test_an_unencrypted_broker_is_not_given_the_password(
    tls: Path, brokers: Callable[..., Broker], lines: Callable[..., Line]
) -> None:
    assert tls
    done = runner.invoke(app, ["mqtt", "check", "--station", str(lines(brokers(), SECURE).file)])
    assert done.exit_code == 2
    assert "correct mqtt.host, mqtt.port and mqtt.tls" in done.stderr


def access_list(folder: Path, *rules: str) -> Path:
    path = folder / "acl"
    path.write_text("\n".join(rules) + "\n")
    path.chmod(0o600)
    return path


def _decided(ear: Ear) -> list[object]:
    return [
        value(payload, "Decision/Id")
        for kind, payload in sparkplug(ear)
        if kind == "NDATA" and "Decision/Id" in _names(payload)
    ]


def _names(payload: Payload) -> set[str]:
    return {metric.name for metric in payload.metrics}


def _numbers_are_right(said: list[tuple[str, Payload]]) -> None:
    """Births count from 0, data counts on, deaths do not count."""
    expected = 0
    for kind, payload in said:
        if kind == "NBIRTH":
            expected = 0
        if kind == "NDEATH":
            assert payload.seq is None
            continue
        assert payload.seq == expected % 256
        expected += 1
