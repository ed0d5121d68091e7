"""What the MQTT process must still know after a restart: how far it has reported, and its last birth-death number."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec

from inspector.decisions import NEWEST
from inspector.mqtt import MqttError


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content, as JSON."""

    reported: int = NEWEST  # the broker has all decisions up to this one
    bd_seq: int = -1  # of the last connection; -1: there was none


class ProgressFile:
    """The file, held by one process at a time; written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self.progress = Progress()

    def __enter__(self) -> Self:
        """Take the file.

        Raises:
            MqttError: another process has it, or it cannot be used.
        """
        with ExitStack() as stack:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(self._path.with_name(f"{self._path.name}.lock").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.progress = self._read()
            except BlockingIOError as error:
                raise MqttError(f"{self._path}: another `inspector mqtt` reports this station: stop it") from error
            except OSError as error:
                raise MqttError(f"{self._path} cannot be used ({error}): it must be where journal may be") from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def keep(self, progress: Progress) -> None:
        """Have it on disk when this returns.

        Raises:
            OSError: the disk is full or broken; the old content stays.
        """
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(progress))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self.progress = progress

    def _read(self) -> Progress:
        if not self._path.exists():
            return Progress()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Progress)
        except msgspec.MsgspecError as error:
            raise MqttError(f"{self._path} cannot be read ({error}): remove it to report from now on") from error
