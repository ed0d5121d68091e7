"""Who may do what on the OPC UA server: asyncua leaves that to its users, and leaves more open than it seems to.

asyncua 2.1 accepts an unencrypted channel whatever its endpoints are, looks at the certificate that a client names, not
at the one that its channel is encrypted with, numbers its sessions, so that anybody can go on with another's, lets
every session change every subscription, and lets anybody register servers. All of that is closed here.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.ua.status_codes import StatusCodes

from inspector.plc.opcua_certificates import TrustedCertificates
from inspector.plc.opcua_users import Role, Users

log = logging.getLogger(__name__)

FASTEST_MS = 5.0  # of publishing: at 0 asyncua would publish a result's variables one by one
_NOBODY = User(UserRole.Anonymous)  # before a session is activated
_RSA15 = "http://www.w3.org/2001/04/xmlenc#rsa-1_5"  # a password that is encrypted so can be guessed from the answers


@dataclass
class StationUser(User):
    """Somebody who was let in."""

    station_role: Role = Role.OBSERVER


def status(code: int) -> ua.StatusCode:
    """A status code as asyncua types it."""
    return ua.StatusCode(ua.UInt32(code))


class Variables(Protocol):
    """The variables that clients write."""

    def refusals(self, items: Sequence[ua.WriteValue], role: Role) -> list[ua.StatusCode] | None:
        """Why not all of these can be written, one code an item; None when they can."""

    def take(self, items: Sequence[ua.WriteValue]) -> None:
        """These have been written, all at once."""


class Door:
    """asyncua's user manager: lets clients in by certificate, name and password."""

    def __init__(self, trusted: TrustedCertificates | None, users: Users | None, *, anonymous: bool) -> None:
        self._trusted = trusted
        self._users = users
        self._anonymous = anonymous

    def get_user(
        self,
        iserver: InternalServer,  # noqa: ARG002  # asyncua calls it by its name
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User | None:
        """The user, or None; `certificate` is the one that the channel is encrypted with, None without encryption.

        Raises:
            ServiceError: the certificate is not trusted.
        """
        if certificate is not None and (self._trusted is None or not self._trusted.accepts(certificate)):
            raise ServiceError(StatusCodes.BadCertificateUntrusted)
        if username is None:
            return StationUser(UserRole.User, "anonymous") if self._anonymous else None
        if certificate is None or self._users is None:
            return None
        role = self._users.role_of(username, password or "")
        if role is None:
            log.warning("an OPC UA client was refused: name %r or its password is wrong", username)
            return None
        log.info("%s is connected by OPC UA as %s", username, role)
        return StationUser(UserRole.User, username, role)


class GuardedServer(InternalServer):
    """asyncua's server with sessions that mind who their user is."""

    def __init__(self, door: Door) -> None:
        super().__init__(user_manager=door)  # type: ignore[arg-type]  # asyncua's is no protocol
        self.variables: Variables | None = None

    def create_session(self, name: str, user: User = _NOBODY, external: bool = False) -> "GuardedSession":  # noqa: ARG002
        """A session that ends with its connection.

        asyncua's "external" ones could be gone on with from another connection: by anybody who guesses their number,
        and by a client that does not see that its subscription has lost what was published when the connection broke.
        A PLC that reconnects must see all of the next result, not what is different since one that it never saw.
        """
        return GuardedSession(self, self.aspace, self.subscription_service, name, user=user, external=False)

    def register_server(self, server: object, conf: object = None) -> None:  # noqa: ARG002
        """Not here: this is no discovery server."""
        raise ServiceError(StatusCodes.BadServiceUnsupported)


class GuardedSession(InternalSession):
    """What a client does, held against what its user may do."""

    iserver: GuardedServer

    @property
    def role(self) -> Role:
        """Of the user; an observer may read."""
        return self.user.station_role if isinstance(self.user, StationUser) else Role.OBSERVER

    def activate_session(
        self, params: ua.ActivateSessionParameters, peer_certificate: bytes | None
    ) -> ua.ActivateSessionResult:
        """Let the user in; a password is taken on an encrypted channel alone."""
        token = params.UserIdentityToken
        if isinstance(token, ua.UserNameIdentityToken) and (
            not peer_certificate or token.EncryptionAlgorithm == _RSA15
        ):
            raise ServiceError(StatusCodes.BadIdentityTokenRejected)
        return super().activate_session(params, peer_certificate or None)  # b"" is none too

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write the PLC's variables, all that are named or none."""
        variables = self.iserver.variables
        if variables is None:
            raise ServiceError(StatusCodes.BadServerHalted)
        refusals = variables.refusals(params.NodesToWrite, self.role)
        if refusals is not None:
            return refusals
        results = await super().write(params)
        variables.take(params.NodesToWrite)
        return results

    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        """Call methods, as the PLC."""
        if self.role is not Role.PLC:
            return [ua.CallMethodResult(StatusCode=status(StatusCodes.BadUserAccessDenied)) for _ in params]
        return await super().call(params)

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Callable[..., object],
        request_callback: Callable[..., object] | None = None,
    ) -> ua.CreateSubscriptionResult:
        """A subscription that publishes all changes of one moment together."""
        params.RequestedPublishingInterval = max(params.RequestedPublishingInterval, FASTEST_MS)
        return await super().create_subscription(params, callback, request_callback)

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        """Delete own subscriptions."""
        self._check_own(ids)
        return await super().delete_subscriptions(ids)

    async def set_publishing_mode(self, params: ua.SetPublishingModeParameters) -> list[ua.StatusCode]:
        """Stop or start own subscriptions."""
        self._check_own(params.SubscriptionIds)
        return await super().set_publishing_mode(params)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Add to an own subscription."""
        self._check_own([params.SubscriptionId])
        return await super().create_monitored_items(params)

    async def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """Change an own subscription."""
        self._check_own([params.SubscriptionId])
        return await super().modify_monitored_items(params)

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        """Take out of an own subscription."""
        self._check_own([params.SubscriptionId])
        return await super().delete_monitored_items(params)

    async def set_monitoring_mode(self, params: ua.SetMonitoringModeParameters) -> list[ua.StatusCode]:
        """Stop or start what is in an own subscription."""
        self._check_own([params.SubscriptionId])
        return await super().set_monitoring_mode(params)

    def republish(self, params: ua.RepublishParameters) -> ua.NotificationMessage:
        """Send again what an own subscription has sent; asyncua would send nothing, for which clients ask for ever."""
        self._check_own([params.SubscriptionId])
        message = super().republish(params)
        if not message.NotificationData:
            raise ServiceError(StatusCodes.BadMessageNotAvailable)
        return message

    async def transfer_subscriptions(  # type: ignore[override]  # as asyncua's own
        self,
        params: ua.TransferSubscriptionsParameters,
        callback: Callable[..., object],  # noqa: ARG002
    ) -> list[ua.TransferResult]:
        """Nobody's subscriptions go to somebody else: the client makes new ones."""
        unknown = status(StatusCodes.BadSubscriptionIdInvalid)
        return [ua.TransferResult(StatusCode=unknown) for _ in params.SubscriptionIds]

    def _check_own(self, ids: Iterable[int]) -> None:
        known = self.subscription_service.subscriptions
        if any(number in known and known[number].session_id != self.session_id for number in ids):
            raise ServiceError(StatusCodes.BadSubscriptionIdInvalid)
