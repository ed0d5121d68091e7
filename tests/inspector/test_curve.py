"""tcp:// with CURVE: who is on the list hears and asks, and nobody else gets anything or disturbs. Real sockets."""

import os
import socket as sockets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.auth
from typer.testing import CliRunner

from inspector.bus import Publisher, Subscriber
from inspector.camera import Trigger
from inspector.cli import app
from inspector.control import ControlClient, ControlServer
from inspector.curve import CurveError, allow_client, create_keys, load_keys
from inspector.decisions import DecisionFollower, DecisionServer
from inspector.journal import Journal
from inspector.messages import Result
from inspector.station import Bus, Curve

from .test_bus import inspected
from .test_control import ask

PATIENCE_MS = 10_000
NOTHING_MS = 300
runner = CliRunner()


def made(folder: Path) -> Curve:
    """A station's keys, and nobody on its list."""
    curve = Curve(private_key=folder / "station.key_secret", clients=folder / "clients")
    create_keys(curve.private_key)
    curve.clients.mkdir()
    return curve


def free_endpoint() -> str:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def curve(tmp_path: Path) -> Curve:
    return made(tmp_path / "keys")


@pytest.fixture
def locked(bus: Bus) -> Bus:
    return bus.model_copy(update={topic: free_endpoint() for topic in Bus.model_fields})


@pytest.fixture
def publisher(locked: Bus, curve: Curve) -> Iterator[Publisher]:
    with Publisher(locked, "line1", curve=curve) as opened:
        yield opened


Dress = Callable[["zmq.Socket[bytes]"], None]


@contextmanager
def client(kind: int, endpoint: str, dress: Dress) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RECONNECT_IVL, 20)
        dress(socket)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(endpoint)
        yield socket


def with_keys(curve: Curve, secret: Path) -> Dress:
    def dress(socket: "zmq.Socket[bytes]") -> None:
        socket.curve_serverkey = load_keys(curve.private_key).public
        socket.curve_publickey, socket.curve_secretkey = load_keys(secret).public, load_keys(secret).secret

    return dress


def strangers(curve: Curve, folder: Path) -> dict[str, Dress]:
    """All who must not get in."""
    create_keys(folder / "stranger.key_secret")
    public, secret = zmq.curve_keypair()

    def for_another_server(socket: "zmq.Socket[bytes]") -> None:
        with_keys(curve, allow_client(curve, "mistaken"))(socket)
        socket.curve_serverkey = public

    def with_anothers_public_key(socket: "zmq.Socket[bytes]") -> None:
        with_keys(curve, allow_client(curve, "robbed"))(socket)
        socket.curve_secretkey = secret

    def a_server_too(socket: "zmq.Socket[bytes]") -> None:
        socket.curve_server, socket.curve_secretkey = True, secret

    def with_a_password(socket: "zmq.Socket[bytes]") -> None:
        socket.plain_username, socket.plain_password = b"admin", b"admin"

    return {
        "without keys": lambda _: None,
        "with a password": with_a_password,
        "not on the list": with_keys(curve, folder / "stranger.key_secret"),
        "for another server": for_another_server,
        "with another's public key": with_anothers_public_key,
        "a server too": a_server_too,
    }


KINDS = [
    "without keys",
    "with a password",
    "not on the list",
    "for another server",
    "with another's public key",
    "a server too",
]


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_not_on_the_list_hears_nothing_and_disturbs_nobody(
    publisher: Publisher, locked: Bus, curve: Curve, tmp_path: Path, kind: str
) -> None:
    dress = strangers(curve, tmp_path)[kind]
    with client(zmq.SUB, locked.result, dress) as stranger, Subscriber(locked, ("result",), curve=curve) as known:
        assert publisher.listeners("result", PATIENCE_MS) == 1
        for sequence in range(20):
            publisher.send_result(publisher.next_result(inspected(sequence), 100))
        heard = [known.receive(PATIENCE_MS) for _ in range(20)]
        assert [message.seq for message in heard if isinstance(message, Result)] == list(range(1, 21))
        assert not stranger.poll(NOTHING_MS)
        assert publisher.listeners("result") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_not_on_the_list_can_ask_for_nothing(curve: Curve, tmp_path: Path, kind: str) -> None:
    endpoint, asked = free_endpoint(), list[Trigger]()
    dress = strangers(curve, tmp_path)[kind]
    with ControlServer(endpoint, asked.append, curve=curve), client(zmq.DEALER, endpoint, dress) as stranger:
        word = {"kind": "expose", "v": 1, "request": 1, "trigger": 666, "part_id": "P"}
        stranger.send(msgspec.msgpack.encode(word))
        stranger.send(b"\x86" + b"x" * 100)
        with ControlClient(endpoint, curve=curve) as known:
            assert ask(known, Trigger(1, "P-1")).ok
        assert not stranger.poll(NOTHING_MS)
    assert [trigger.token for trigger in asked] == [1]


def test_decisions_are_followed_with_keys_and_with_none_they_are_not(curve: Curve, tmp_path: Path) -> None:
    endpoint, path = free_endpoint(), tmp_path / "journal.sqlite"
    with Journal(path, reserve_bytes=4096), DecisionServer(endpoint, path, "b", curve=curve) as server:
        with DecisionFollower(endpoint, after=-1, curve=curve) as known:
            ends = time.monotonic() + 10
            while not known.boot:
                assert time.monotonic() < ends
                known.receive(20)
                server.serve()
        server._followers.clear()
        with client(zmq.DEALER, endpoint, lambda _: None) as stranger:
            stranger.send(b"\x83\xa4kind\xa6follow\xa1v\x01\xa5after\x00")
            ends = time.monotonic() + NOTHING_MS / 1000
            while time.monotonic() < ends:
                server.serve()
                assert not stranger.poll(10)
        assert not server._followers


def heard(publisher: Publisher, socket: "zmq.Socket[bytes]", timeout_ms: int) -> bool:
    """Whether a result arrives within the time."""
    ends = time.monotonic() + timeout_ms / 1000
    while time.monotonic() < ends:
        publisher.listeners("result")
        publisher.send_result(publisher.next_result(inspected(0), 100))
        if socket.poll(20):
            return True
    return False


def test_the_list_is_read_for_each_connection(publisher: Publisher, locked: Bus, curve: Curve, tmp_path: Path) -> None:
    secret = tmp_path / "laptop.key_secret"
    public = create_keys(secret)
    (curve.clients / "damaged.key").write_bytes(b"none")
    with client(zmq.SUB, locked.result, with_keys(curve, secret)) as laptop:
        assert not heard(publisher, laptop, NOTHING_MS)
        (curve.clients / "laptop.key").write_bytes(public.read_bytes())
    with client(zmq.SUB, locked.result, with_keys(curve, secret)) as laptop:
        assert heard(publisher, laptop, PATIENCE_MS)
    (curve.clients / "laptop.key").unlink()
    with client(zmq.SUB, locked.result, with_keys(curve, secret)) as laptop:
        assert not heard(publisher, laptop, NOTHING_MS)


def test_nobody_gets_in_when_there_is_no_authenticator(
    locked: Bus, curve: Curve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZeroMQ's own default is to let everybody in who knows the station's public key."""
    monkeypatch.setattr("inspector.bus.guard", lambda *_: None)
    dress = with_keys(curve, allow_client(curve, "laptop"))
    with Publisher(locked, "line1", curve=curve) as publisher, client(zmq.SUB, locked.result, dress) as laptop:
        assert not heard(publisher, laptop, NOTHING_MS)


def test_noise_on_the_port_disturbs_nobody(publisher: Publisher, locked: Bus, curve: Curve) -> None:
    host, port = locked.result.removeprefix("tcp://").split(":")
    noise = [sockets.create_connection((host, int(port))) for _ in range(50)]
    try:
        for number, connection in enumerate(noise):
            connection.sendall(os.urandom(10 * number))
        with Subscriber(locked, ("result",), curve=curve) as known:
            assert publisher.listeners("result", PATIENCE_MS) == 1
            publisher.send_result(publisher.next_result(inspected(0), 100))
            assert isinstance(known.receive(PATIENCE_MS), Result)
    finally:
        for connection in noise:
            connection.close()


def test_nothing_is_bound_or_connected_without_keys(locked: Bus) -> None:
    with pytest.raises(CurveError, match=r"tcp://.*needs \[curve\] in station\.toml"), Publisher(locked, "line1"):
        pass
    with pytest.raises(CurveError, match="needs"), Subscriber(locked):
        pass
    with pytest.raises(CurveError, match="needs"), ControlServer(locked.control, lambda _: None):
        pass


def test_a_private_key_that_others_can_read_is_refused(locked: Bus, curve: Curve) -> None:
    curve.private_key.chmod(0o640)
    with pytest.raises(CurveError, match=r"station\.key_secret can be read by others: chmod 600"):
        load_keys(curve.private_key)
    with pytest.raises(CurveError, match="chmod 600"), Publisher(locked, "line1", curve=curve):
        pass


def test_a_private_key_that_is_none_is_named(curve: Curve) -> None:
    public = curve.private_key.with_suffix(".key")
    with pytest.raises(CurveError, match="holds no pair of keys"):
        load_keys(public)
    with pytest.raises(CurveError, match=r"none\.key_secret cannot be read .*make it with inspector bus key"):
        load_keys(curve.private_key.with_name("none.key_secret"))


def test_keys_are_their_owners_alone_whatever_the_umask_and_are_not_overwritten(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        public = create_keys(tmp_path / "a.key_secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.key_secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert b"secret-key" not in public.read_bytes()
    with pytest.raises(CurveError, match="is there already"):
        create_keys(tmp_path / "a.key_secret")
    with pytest.raises(CurveError, match=r"name it NAME\.key_secret"):
        create_keys(tmp_path / "a.pem")


def test_the_commands_make_what_the_station_needs(tmp_path: Path) -> None:
    station_file = tmp_path / "station.toml"
    station_file.write_text(
        f"""
        name = "line1"
        deadline_ms = 100
        camera = {{ kind = "simulator" }}
        recipe = {{ name = "tray", bundle = "tray.bundle" }}
        bus = {{ result = "{free_endpoint()}" }}
        curve = {{ private_key = "keys/station.key_secret", clients = "keys/clients" }}
        """
    )
    for words in (["key"], ["client", "laptop"]):
        done = runner.invoke(app, ["bus", *words, "--station", str(station_file)])
        assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "keys").rglob("*.key*")) == [
        "laptop.key", "laptop.key_secret", "station.key", "station.key_secret",
    ]  # fmt: skip
    for words in (["key"], ["client", "laptop"], ["client", "../laptop"]):
        done = runner.invoke(app, ["bus", *words, "--station", str(station_file)])
        assert done.exit_code == 2
        assert "is there already" in done.stderr or "cannot be a client's name" in done.stderr
