"""Who may connect over tcp://: ZeroMQ's CURVE with a list of the clients' public keys. ipc:// needs none of it.

It fails closed: without keys nothing is bound, and when the authenticator does not answer nobody gets in.
"""

import logging
import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from inspector.station import Curve

DOMAIN = "inspector"
HANDSHAKE_MS = 2000  # a stranger that says nothing is not kept longer
LARGEST_BYTES = 65536  # that a client may send at once
MOST_TOLD = 32  # strangers that the log names, until it begins anew
PUBLIC, SECRET = ".key", ".key_secret"

log = logging.getLogger(__name__)


class CurveError(Exception):
    """The keys of tcp:// endpoints cannot be used; the text names the key or file and what to do."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A pair, in Z85."""

    public: bytes
    secret: bytes


def guard(context: "zmq.Context[zmq.Socket[bytes]]", curve: Curve | None, stack: ExitStack) -> None:
    """Let in whom the list names, to all sockets of the context that `lock` has locked; a stack that unwinds ends it.

    A client that joins the list may connect at once; one that leaves it stays until its connection ends.
    """
    if curve is None:
        return
    gate = ThreadAuthenticator(context, log=log)
    gate.configure_curve_callback(DOMAIN, _Allowed(curve.clients, load_keys(curve.private_key).public))
    gate.start()
    stack.callback(gate.stop)


def lock(socket: "zmq.Socket[bytes]", endpoint: str, curve: Curve | None) -> None:
    """Encrypt a socket before it is bound, if it is to be reached over tcp://; its context needs `guard`.

    Raises:
        CurveError: there are no keys, or they cannot be used.
    """
    if not _is_tcp(endpoint):
        return
    keys = load_keys(_needed(curve, endpoint).private_key)
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, keys.secret)
    socket.set(zmq.ZAP_DOMAIN, DOMAIN.encode())
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an authenticator nobody gets in, instead of everybody
    socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.set(zmq.MAXMSGSIZE, LARGEST_BYTES)


def unlock(socket: "zmq.Socket[bytes]", endpoint: str, curve: Curve | None) -> str:
    """Give a socket of the station's own processes the station's keys before it connects; where to.

    Raises:
        CurveError: there are no keys, or they cannot be used.
    """
    if _is_tcp(endpoint):
        keys = load_keys(_needed(curve, endpoint).private_key)
        socket.set(zmq.CURVE_SERVERKEY, keys.public)
        socket.set(zmq.CURVE_PUBLICKEY, keys.public)
        socket.set(zmq.CURVE_SECRETKEY, keys.secret)
    return endpoint.replace("tcp://0.0.0.0:", "tcp://127.0.0.1:").replace("tcp://[::]:", "tcp://[::1]:")


def create_keys(private_key: Path) -> Path:
    """Make a pair in two files; the private one is its owner's alone, whatever the umask. Nothing is overwritten.

    Returns:
        the file with the public key.

    Raises:
        CurveError: the name is no `NAME.key_secret`, or a file is there already, or cannot be written.
    """
    public = private_key.with_suffix(PUBLIC)
    if private_key.suffix != SECRET:
        raise CurveError(f"{private_key}: name it NAME{SECRET}; the public key is NAME{PUBLIC} beside it")
    for path in (private_key, public):
        if path.exists():
            raise CurveError(f"{path} is there already: move it away to have another, and tell all who use it")
    before = os.umask(0o077)  # pyzmq writes both with the umask alone
    try:
        private_key.parent.mkdir(parents=True, exist_ok=True)
        zmq.auth.create_certificates(private_key.parent, private_key.stem)
        public.chmod(0o644)
    except OSError as error:
        raise CurveError(f"no keys were made: {error}: name a folder that you may write") from error
    finally:
        os.umask(before)
    return public


def allow_client(curve: Curve, name: str) -> Path:
    """Make a pair for a client whose public key is on the list at once.

    Returns:
        the file with the client's private key, beside the folder of the list, for the client to have.

    Raises:
        CurveError: the name is none for a file, or is there already, or nothing can be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise CurveError(f"{name!r} cannot be a client's name: take letters, digits, - _ and .")
    listed = curve.clients / f"{name}{PUBLIC}"
    if listed.exists():
        raise CurveError(f"{listed} is there already: remove it to shut that client out, or take another name")
    secret = curve.clients.parent / f"{name}{SECRET}"
    public = create_keys(secret)
    try:
        curve.clients.mkdir(parents=True, exist_ok=True)
        public.replace(listed)
    except OSError as error:
        raise CurveError(f"curve.clients: {error}") from error
    return secret


def load_keys(private_key: Path) -> Keys:
    """The station's pair.

    Raises:
        CurveError: it cannot be read, is none, or others can read it too.
    """
    try:
        public, secret = zmq.auth.load_certificate(private_key)
        others = private_key.stat().st_mode & 0o077
    except (OSError, ValueError) as error:
        raise CurveError(
            f"curve.private_key: {private_key} cannot be read ({error}): make it with inspector bus key"
        ) from error
    if secret is None or zmq.curve_public(secret) != public:
        raise CurveError(f"curve.private_key: {private_key} holds no pair of keys: make one with inspector bus key")
    if others:
        raise CurveError(
            f"curve.private_key: {private_key} can be read by others: chmod 600 it, or make another pair if they have"
        )
    return Keys(public, secret)


class _Allowed:
    """The list, read anew for each client that connects."""

    def __init__(self, clients: Path, own: bytes) -> None:
        self._clients = clients
        self._own = own
        self._told: set[bytes] = set()

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether the client with this public key, in Z85, may connect; called in the authenticator's thread."""
        if key == self._own or key in map(_key_in, self._clients.glob(f"*{PUBLIC}")):
            return True
        if key not in self._told:  # it tries again and again
            if len(self._told) >= MOST_TOLD:
                self._told.clear()
            self._told.add(key)
            log.warning(
                "a client with the public key %s was refused: to let it in, put NAME.key into %s",
                key.decode(),
                self._clients,
            )
        return False


def _key_in(path: Path) -> bytes | None:
    """A client's public key; None of a file that holds none."""
    try:
        return zmq.auth.load_certificate(path)[0]
    except (OSError, ValueError) as error:
        log.warning("curve.clients: %s is no public key (%s): nobody gets in by it", path, error)
        return None


def _is_tcp(endpoint: str) -> bool:
    return endpoint.startswith("tcp://")


def _needed(curve: Curve | None, endpoint: str) -> Curve:
    if curve is None:
        raise CurveError(f"{endpoint}: tcp:// needs [curve] in station.toml, or take ipc://")
    return curve
