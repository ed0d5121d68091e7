"""A station's OPC UA server on a loop of its own, with certificates and users; and clients of it."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from inspector.plc import PlcInputs, PlcOutputs
from inspector.plc.opcua import OpcUaServer
from inspector.plc.opcua_certificates import create_certificate
from inspector.plc.opcua_nodes import NAMESPACE
from inspector.plc.opcua_settings import OpcUaSettings
from inspector.plc.opcua_users import Role, add_user

PASSWORD = "correct horse battery"  # noqa: S105


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    """What a test may see and set of a station that serves in another thread."""

    folder: Path
    port: int = field(default_factory=free_port)
    heard: list[PlcInputs] = field(default_factory=list)
    outputs: PlcOutputs = field(default_factory=PlcOutputs)

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    def settings(self, **others: object) -> OpcUaSettings:
        return OpcUaSettings.model_validate(
            {
                "certificate": "own.der",
                "private_key": "own.key.pem",
                "trusted": "trusted",
                "users": "users",
                "application_uri": "urn:test:inspector",
                **others,
            },
            context={"folder": self.folder},
        )

    def make_files(self) -> None:
        own = self.settings()
        assert own.certificate is not None
        assert own.private_key is not None
        create_certificate(own.certificate, own.private_key, own.application_uri, ["localhost", "127.0.0.1"])
        (self.folder / "trusted").mkdir()
        for role in Role:
            add_user(self.folder / "users", role.value, role, PASSWORD)
        self.make_client("friend")
        self.make_client("stranger")
        friend = self.folder / "friend.pem"
        (self.folder / "trusted" / "friend.pem").write_bytes(friend.read_bytes())

    def make_client(self, name: str) -> None:
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key.pem"
        create_certificate(*paths, f"urn:test:{name}", ["localhost"])

    @contextmanager
    def serving(
        self,
        settings: OpcUaSettings,
        wrote: Callable[[PlcInputs], None] | None = None,
        outputs: Callable[[], PlcOutputs] | None = None,
    ) -> Iterator[None]:
        """Serve; without other callbacks, `heard` and `outputs` are what it hears and shows."""
        server = OpcUaServer(
            "127.0.0.1", self.port, wrote or self.heard.append, outputs or (lambda: self.outputs), settings
        )
        up, down = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            async with server.serving():
                up.set()
                await down.wait()

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        try:
            assert up.wait(30)
            yield
        finally:
            loops[0].call_soon_threadsafe(down.set)
            thread.join()

    def client(self) -> Client:
        """Not yet connected, and not encrypted."""
        return Client(self.url, timeout=10)

    @asynccontextmanager
    async def connected(
        self, certificate: str | None = None, user: str | None = None, password: str = PASSWORD
    ) -> AsyncIterator[Client]:
        client = self.client()
        if user is not None:
            client.set_user(user)
            client.set_password(password)
        if certificate is not None:
            await self.encrypt(client, certificate)
        async with client:
            yield client

    async def encrypt(self, client: Client, certificate: str) -> None:
        client.application_uri = f"urn:test:{certificate}"
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            certificate=self.folder / f"{certificate}.pem",
            private_key=self.folder / f"{certificate}.key.pem",
            server_certificate=self.folder / "own.der",
            mode=ua.MessageSecurityMode.SignAndEncrypt,
        )


async def node(client: Client, path: str) -> Node:
    """`Station.Plc.Enable` and the like."""
    index = await client.get_namespace_index(NAMESPACE)
    return client.get_node(ua.NodeId(path, index))


async def write(client: Client, **values: bool | int | str) -> list[ua.StatusCode]:
    """Write the PLC's variables in one call."""
    nodes = [await node(client, f"Station.Plc.{name}") for name in values]
    kinds = [await each.read_data_type_as_variant_type() for each in nodes]
    parameters = ua.WriteParameters()
    for each, kind, value in zip(nodes, kinds, values.values(), strict=True):
        item = ua.WriteValue(each.nodeid, ua.AttributeIds.Value, Value=ua.DataValue(ua.Variant(value, kind)))
        parameters.NodesToWrite.append(item)
    return await client.uaclient.write(parameters)
