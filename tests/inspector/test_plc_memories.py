"""Whatever is at the PLC's address, a memory says so in time and in one kind of error: the bridge answers no other."""

import importlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

import pytest

from inspector.plc import PlcPortError
from inspector.plc.client_settings import EthernetIpSettings, ModbusClientSettings, S7Settings
from inspector.plc.memory import PlcMemory, memory_of, open_memory
from inspector.station import Plc

from .test_modbus import free_port

IN_TIME_S = 8.0  # S7 takes 5 to find out that nobody speaks it
PLCS: dict[str, dict[str, object]] = {
    "modbus_client": {"protocol": "modbus-client", "modbus_client": ModbusClientSettings()},
    "s7": {"protocol": "s7", "s7": S7Settings(db=100)},
    "ethernet_ip": {"protocol": "ethernet-ip", "ethernet_ip": EthernetIpSettings()},
}
PACKAGES = {"modbus_client": "pymodbus", "s7": "snap7", "ethernet_ip": "pylogix"}


@pytest.fixture(params=PLCS)
def table(request: pytest.FixtureRequest) -> str:
    table = str(request.param)
    pytest.importorskip(PACKAGES[table], reason=f"{PACKAGES[table]} is not installed: pip install -e '.[dev]'")
    return table


def plc_at(table: str, port: int) -> Plc:
    return Plc.model_validate({"host": "127.0.0.1", "port": port} | PLCS[table])


def silent(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def reset(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: socket.socket) -> None:
    connection.recv(4096)


def another_protocol(connection: socket.socket) -> None:
    while connection.recv(4096):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def half_an_answer(connection: socket.socket) -> None:
    """As long as Modbus, S7 and EtherNet/IP say that it goes on, and then no more."""
    while asked := connection.recv(4096):
        connection.sendall(asked[:7])


@contextmanager
def device(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something at an address; the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended: list[bool] = []

        def serve() -> None:
            while not ended:
                with suppress(OSError):
                    connection, _ = server.accept()
                    connection.settimeout(IN_TIME_S)
                    with connection:
                        behave(connection)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            ended.append(True)
            thread.join()


@pytest.mark.parametrize("behave", [silent, reset, hang_up, another_protocol, half_an_answer])
def test_a_device_that_does_not_answer_rightly_is_named(table: str, behave: Callable[[socket.socket], None]) -> None:
    with device(behave) as port:
        began_s = time.monotonic()
        with pytest.raises(PlcPortError, match=f"127.0.0.1:{port}"), open_memory(plc_at(table, port)) as memory:
            memory.read_to_station()
        assert time.monotonic() - began_s < IN_TIME_S


def test_nobody_at_the_address_is_said(table: str) -> None:
    port = free_port()
    with pytest.raises(PlcPortError, match=f"127.0.0.1:{port}"), open_memory(plc_at(table, port)):
        pass


def test_closing_twice_or_unopened_is_no_error(table: str) -> None:
    memory = memory_of(plc_at(table, free_port()))
    memory.close()
    memory.close()


def test_a_protocol_that_the_station_serves_has_no_memory() -> None:
    with pytest.raises(ValueError, match="modbus"):
        memory_of(Plc(protocol="modbus"))


@dataclass
class FakeAnswer:
    Value: list[int] | None
    Status: str = "Success"


@dataclass
class FakeLogix:
    """pylogix's PLC, with two tags."""

    words: list[int] = field(default_factory=lambda: [0] * 40)
    kind: int = 0xC4  # DINT
    refuses: str = ""
    CIPTypes = {0xC3: (2, "INT", "<h"), 0xC4: (4, "DINT", "<i")}  # noqa: RUF012

    @property
    def KnownTags(self) -> dict[str, tuple[int, int]]:  # noqa: N802
        return {"ToStation": (self.kind, 0), "FromStation": (self.kind, 0)}

    def Read(self, _tag: str, count: int) -> FakeAnswer:  # noqa: N802
        return FakeAnswer(self.words[:count])

    def Write(self, tag: str, _words: list[int]) -> FakeAnswer:  # noqa: N802
        return FakeAnswer(None, self.refuses or "Success") if tag == "FromStation[5]" else FakeAnswer(None, tag)


def logix(client: FakeLogix) -> PlcMemory:
    pytest.importorskip("pylogix", reason="pylogix is not installed: pip install -e '.[ethernet-ip]'")
    made = importlib.import_module("inspector.plc.ethernet_ip").EthernetIpMemory("h", 1, EthernetIpSettings())
    made._client = client
    return made  # type: ignore[no-any-return]


def test_a_tag_that_cannot_be_written_is_named() -> None:
    logix(FakeLogix()).write_from_station(5, [1])
    with pytest.raises(PlcPortError, match=r"FromStation cannot be written \(Privilege violation\).*Read/Write"):
        logix(FakeLogix(refuses="Privilege violation")).write_from_station(5, [1])


@pytest.mark.parametrize(("kind", "word"), [(0xC3, 0), (0xC4, -1), (0xC4, 65_536)])
def test_a_tag_that_holds_no_words_is_named(kind: int, word: int) -> None:
    assert logix(FakeLogix([65_535, 0] * 20)).read_to_station()[:2] == [65_535, 0]
    with pytest.raises(PlcPortError, match=r"ToStation is D?INT and holds .* make it DINT\[19\]"):
        logix(FakeLogix([word] * 40, kind)).read_to_station()
