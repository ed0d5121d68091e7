"""The PLC's map over OPC UA, the station as server. Knows variables and a socket, nothing of inspection.

Clients read without encryption where that is allowed, and read, write and call methods over Basic256Sha256, signed and
encrypted, with a certificate that the station trusts, a name and a password.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.server.server import Server

from inspector.plc import PlcInputs, PlcOutputs, PlcPortError
from inspector.plc.opcua_access import Door, GuardedServer
from inspector.plc.opcua_certificates import TrustedCertificates, load_identity
from inspector.plc.opcua_nodes import StationNodes
from inspector.plc.opcua_settings import OpcUaSettings
from inspector.plc.opcua_users import load_users
from inspector.plc.opcua_vision import check_machine_vision, load_machine_vision

log = logging.getLogger(__name__)

Show = Callable[[PlcOutputs], Awaitable[None]]

UPDATE_S = 0.005
MOST_CONNECTIONS = 100
MOST_SUBSCRIPTIONS = 200
LONGEST_QUEUE = 100  # of values of one variable that wait for a client
PATIENCE_S = 10.0  # for a client that has connected and does not log in
LARGEST_MESSAGE = 1 << 22  # bytes, of anybody who reaches the port
_NO_SECURITY = "http://opcfoundation.org/UA/SecurityPolicy#None"
_BINARY = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs every client's mistakes
logging.getLogger("asyncua.server.uaprocessor").setLevel(logging.ERROR)
logging.getLogger("asyncua.server.uaprocessor").addFilter(lambda record: record.exc_info is not None)  # and our own


class OpcUaServer:
    """Serves the station's variables and hears the PLC's; what is read or published together is of one moment."""

    def __init__(
        self,
        host: str,
        port: int,
        wrote: Callable[[PlcInputs], None],
        outputs: Callable[[], PlcOutputs],
        settings: OpcUaSettings,
    ) -> None:
        self._address = (host, port)
        self._wrote = wrote
        self._outputs = outputs
        self._settings = settings
        self._written: list[PlcInputs] = []
        self._is_written = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until the block is left; an error of `wrote` or `outputs` ends the block and is raised.

        Raises:
            PlcPortError: the address cannot be used, or a file that the settings name.
        """
        server, shows = await self._made()
        await self._start(server)
        try:
            async with asyncio.TaskGroup() as group:
                exchange = group.create_task(self._exchange(shows))
                yield
                exchange.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await server.stop()

    async def _exchange(self, shows: Sequence[Show]) -> None:
        """Say what was written, show what comes of it, and again."""
        while True:
            self._is_written.clear()
            written, self._written = self._written, []
            for inputs in written:
                self._wrote(inputs)
            outputs = self._outputs()
            for show in shows:
                await show(outputs)
            with suppress(TimeoutError):
                async with asyncio.timeout(UPDATE_S):
                    await self._is_written.wait()

    def _hear(self, inputs: PlcInputs) -> None:
        self._written.append(inputs)
        self._is_written.set()

    async def _made(self) -> tuple[Server, list[Show]]:
        """The server, not yet listening; files are looked at first, asyncua needs its two seconds after them."""
        settings = self._settings
        guarded = GuardedServer(_door(settings))
        if settings.machine_vision is not None:
            check_machine_vision(settings.machine_vision)
        if settings.certificate is not None and settings.private_key is not None:
            guarded.certificate, guarded.private_key = load_identity(
                settings.certificate, settings.private_key, settings.application_uri
            )
        server = Server(iserver=guarded)
        await server.init()
        server.name, server.application_type = "Inspector", ua.ApplicationType.Server
        await server.set_application_uri(settings.application_uri)
        self._open(server, guarded)
        nodes = StationNodes(server, self._hear)
        index = await nodes.build(self._outputs())
        guarded.variables = nodes
        if settings.machine_vision is None:
            log.info("OPC UA shows plain variables alone: OPC 40100-1 needs plc.opcua.machine_vision")
            return server, [nodes.show]
        vision = await load_machine_vision(server, settings.machine_vision, index)
        return server, [nodes.show, vision.show]

    def _open(self, server: Server, guarded: GuardedServer) -> None:
        """Say which endpoints there are."""
        host, port = self._address
        url = f"opc.tcp://{host}:{port}"
        server.set_endpoint(url)
        server.limits = TransportLimits(max_chunk_count=(LARGEST_MESSAGE >> 16) + 2, max_message_size=LARGEST_MESSAGE)
        guarded.max_connections = MOST_CONNECTIONS
        guarded.max_subscriptions = MOST_SUBSCRIPTIONS
        guarded.max_monitored_item_queue_size = LONGEST_QUEUE
        guarded.max_pending_activation_seconds = PATIENCE_S
        encrypted = [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
        server.set_security_policy(encrypted if self._settings.is_encrypted else [])
        tokens: list[type] = [ua.UserNameIdentityToken]
        if self._settings.anonymous:
            log.warning("OPC UA shows the station to everybody who reaches port %d: plc.opcua.anonymous is set", port)
            tokens.append(ua.AnonymousIdentityToken)
            # asyncua would take the certificate that an unencrypted client only names for the one that it has.
            guarded.add_endpoint(_unencrypted(server, url))
        server.set_identity_tokens(tokens)

    async def _start(self, server: Server) -> None:
        host, port = self._address
        try:
            await server.start()
        except OSError as error:
            raise PlcPortError(
                f"OPC UA cannot be served on {host}:{port} ({error}): correct plc.host or plc.port in station.toml"
            ) from error


def _door(settings: OpcUaSettings) -> Door:
    trusted = TrustedCertificates(settings.trusted) if settings.trusted is not None else None
    if trusted is not None:
        trusted.check()
    users = load_users(settings.users) if settings.users is not None else None
    return Door(trusted, users, anonymous=settings.anonymous)


def _unencrypted(server: Server, url: str) -> ua.EndpointDescription:
    application = ua.ApplicationDescription(
        ApplicationUri=server.get_application_uri(),
        ProductUri=server.product_uri,
        ApplicationName=ua.LocalizedText(server.name),
        ApplicationType=server.application_type,
        DiscoveryUrls=[url],
    )
    everybody = ua.UserTokenPolicy(
        PolicyId="anonymous", TokenType=ua.UserTokenType.Anonymous, SecurityPolicyUri=_NO_SECURITY
    )
    return ua.EndpointDescription(
        EndpointUrl=url,
        Server=application,
        SecurityMode=ua.MessageSecurityMode.None_,
        SecurityPolicyUri=_NO_SECURITY,
        UserIdentityTokens=[everybody],
        TransportProfileUri=_BINARY,
        SecurityLevel=ua.Byte(0),
    )
