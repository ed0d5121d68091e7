"""Names, roles and passwords of those who connect by OPC UA: a file of lines `name:role:scrypt:SALT:HASH`."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inspector.plc import PlcPortError

_COST = {"n": 1 << 14, "r": 8, "p": 1}  # 16 MiB and some 50 ms a password
_LONGEST_PASSWORD = 1024
_MOST_REMEMBERED = 256


class Role(StrEnum):
    """What somebody may do."""

    OBSERVER = "observer"  # read
    PLC = "plc"  # read, write the PLC's variables, call methods
    MAINTENANCE = "maintenance"  # read, reset errors and counters


@dataclass(frozen=True, slots=True)
class _User:
    role: Role
    salt: bytes
    hashed: bytes


_NOBODY = _User(Role.OBSERVER, bytes(16), bytes(64))  # takes as long to refuse as a wrong password


class Users:
    """Tells who somebody is by name and password.

    A password is worth 50 ms of hashing, during which a station would not hear its PLC. So what was tried before is
    remembered, right or wrong, by a key of this process: a PLC that reconnects, or that has a wrong password in its
    program, costs nothing.
    """

    def __init__(self, users: dict[str, _User]) -> None:
        self._users = users
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, bool] = {}

    def role_of(self, name: str, password: str) -> Role | None:
        """The role, or None when there is no such name or the password is wrong."""
        if len(password) > _LONGEST_PASSWORD:
            return None
        user = self._users.get(name)
        tried = hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")
        if tried not in self._remembered:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            known = user or _NOBODY
            self._remembered[tried] = hmac.compare_digest(_hash(password, known.salt), known.hashed)
        return user.role if user is not None and self._remembered[tried] else None


def load_users(path: Path) -> Users:
    """Read the file of users.

    Raises:
        PlcPortError: it cannot be read, or a line is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlcPortError(
            f"{path}: the users of OPC UA cannot be read ({error}): add one with "
            "`inspector plc user`, or correct plc.opcua.users"
        ) from error
    users = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                name, user = _parsed(line)
            except ValueError as error:
                raise PlcPortError(
                    f"{path}: line {number} is no name:role:scrypt:SALT:HASH ({error}): remove it, and add the user "
                    "with `inspector plc user`"
                ) from error
            users[name] = user
    return Users(users)


def add_user(path: Path, name: str, role: Role, password: str) -> None:
    """Add a user to the file, or give one another role and password; the file is for its owner alone.

    Raises:
        ValueError: the name or the password cannot be used.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(f"a name may hold only letters, digits, -, _ and . (got {name!r})")
    if not 8 <= len(password) <= _LONGEST_PASSWORD:
        raise ValueError(f"a password has 8 to {_LONGEST_PASSWORD} characters")
    salt = secrets.token_bytes(16)
    added = f"{name}:{role}:scrypt:{salt.hex()}:{_hash(password, salt).hex()}"
    _write_for_owner(path, "".join(f"{line}\n" for line in [*_lines_of_others(path, name), added]))


def _lines_of_others(path: Path, name: str) -> Iterator[str]:
    if path.exists():
        yield from (line for line in path.read_text(encoding="utf-8").splitlines() if line.split(":")[0] != name)


def _write_for_owner(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _parsed(line: str) -> tuple[str, _User]:
    name, role, method, salt, hashed = line.strip().split(":")
    if method != "scrypt":
        raise ValueError(f"{method} is not known")
    user = _User(Role(role), bytes.fromhex(salt), bytes.fromhex(hashed))
    if len(user.salt) < 16 or len(user.hashed) != 64:
        raise ValueError("salt or hash is cut off")
    return name, user


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_COST)
