"""Every decision on disk before anybody is told of it: an SQLite file that only grows, with space kept aside for it.

So is every recipe that was made active: the last one is active again after a restart.

Writing happens in a thread of its own, so that a disk that hangs never stalls the loop: a decision that is not safely
on disk in time counts as not journalled, and its part as not inspected.
"""

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Self

import msgspec

from inspector.messages import Result

RESERVE_BYTES = 64 * 2**20  # kept aside: some hundred thousand decisions
WAITING = 16  # decisions that may wait for a disk that is slow
CHECKPOINT_PAGES = 100  # of 4 KiB: what may stand on the disk twice
CLOSING_S = 2.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL,
    seq INTEGER NOT NULL,
    part_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    score REAL,
    threshold REAL NOT NULL,
    reason TEXT NOT NULL,
    recipe TEXT NOT NULL,
    bundle TEXT NOT NULL,
    captured_utc TEXT NOT NULL,
    record BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS recipes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL,
    active_utc TEXT NOT NULL,
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    name TEXT NOT NULL,
    bundle TEXT NOT NULL,
    threshold REAL NOT NULL,
    asked_by TEXT NOT NULL
) STRICT;
"""
_INSERT = "INSERT INTO decisions VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LAST_REVISION = "SELECT revision, bundle, threshold FROM recipes WHERE number = ? ORDER BY id DESC LIMIT 1"
_ACTIVATE = "INSERT INTO recipes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"

log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Result).decode


class JournalError(Exception):
    """The journal cannot be opened; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A recipe that is made active."""

    boot: str
    active_utc: str
    number: int
    name: str
    bundle: str  # the bundle's id
    threshold: float
    asked_by: str


@dataclass(eq=False)
class _Entry:
    write: Callable[[sqlite3.Connection], int]
    done: Event = field(default_factory=Event)
    answer: int | None = None  # None: not on disk


class Journal:
    """Appends decisions; one process writes a journal, any may read it."""

    def __init__(self, path: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._path = path
        self._reserve = Reserve(path.with_name(f"{path.name}.reserve"), reserve_bytes)
        self._waiting: Queue[_Entry | None] = Queue(WAITING)
        self._thread: Thread | None = None
        self._database: sqlite3.Connection | None = None
        self.alarm = ""  # why decisions are not journalled, or that the space kept aside is in use; empty: all is well

    def __enter__(self) -> Self:
        """Open the journal, or make it.

        Raises:
            JournalError: it cannot be opened or is damaged.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(self._path)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(
                f"journal {self._path} cannot be opened ({error}): free the disk, mend its permissions, or move the "
                "file away to begin another"
            ) from error
        if not self._reserve.fill():
            self._tell(f"no space can be kept aside for journal {self._path}: free the disk")
        self._thread = Thread(target=self._write_all, name="journal", daemon=True)  # a disk that hangs holds no exit
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._thread is not None:
            with suppress(Full):
                self._waiting.put(None, timeout=CLOSING_S)
            self._thread.join(CLOSING_S)
            if self._thread.is_alive():
                log.error("journal %s: the disk hangs; what it holds of the last decisions is not known", self._path)
        self._thread = None

    def append(self, result: Result, timeout_s: float) -> int | None:
        """Write a decision and wait until it is safely on disk.

        Returns:
            the decision's id, which counts up without holes; None when it is not on disk in time, or cannot be.
        """
        return self._keep(partial(_insert, result), timeout_s)

    def activate(self, activation: Activation, timeout_s: float) -> int | None:
        """Write down that a recipe is active from now on, and wait until that is safely on disk. From any thread.

        Returns:
            the recipe's revision, from 1: another one than the last of this number if bundle or threshold are others;
            None when it is not on disk in time, or cannot be.
        """
        in_time = Event()
        in_time.set()
        revision = self._keep(partial(_insert_activation, activation, in_time), timeout_s)
        if revision is None:
            in_time.clear()  # nobody takes it for active: it must not be, either, after a restart
        return revision

    def _keep(self, write: Callable[[sqlite3.Connection], int], timeout_s: float) -> int | None:
        entry = _Entry(write)
        try:
            self._waiting.put_nowait(entry)
        except Full:
            return None
        return entry.answer if entry.done.wait(max(timeout_s, 0.0)) else None

    def _write_all(self) -> None:
        while (entry := self._waiting.get()) is not None:
            entry.answer = self._write(entry.write)
            entry.done.set()
        if self._database is not None:
            self._database.close()

    def _write(self, write: Callable[[sqlite3.Connection], int]) -> int | None:
        try:
            answer = self._write_somehow(write)
        except (OSError, sqlite3.Error) as error:
            self._tell(f"journal {self._path} cannot be written ({error}): parts are not inspected")
            return None
        if self.alarm:
            room = self._reserve.fill()
            self._tell("" if room else f"the disk is full: journal {self._path} uses the space kept aside for it")
        return answer

    def _write_somehow(self, write: Callable[[sqlite3.Connection], int]) -> int:
        if self._database is None:
            raise sqlite3.OperationalError("it is closed")
        try:
            with self._database:  # commits, or takes back
                return write(self._database)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._reserve.release()
            self._tell(f"the disk is full: journal {self._path} uses the space kept aside for it")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what it wrote twice
            with self._database:
                return write(self._database)

    def _tell(self, alarm: str) -> None:
        if alarm != self.alarm:
            log.log(logging.ERROR if alarm else logging.INFO, "%s", alarm or "the journal is well again")
        self.alarm = alarm


class Reserve:
    """A file that only takes space, to be given up when the disk is full."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def fill(self) -> bool:
        """Take the space; False when there is not enough of it."""
        try:
            if self._path.exists() and self._path.stat().st_size >= self._size:
                return True
            if shutil.disk_usage(self._path.parent).free < 2 * self._size:
                return False  # it would be given up again with the next decision
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give the space up."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def read(path: Path, *, after: int = 0, most: int = 1000) -> list[tuple[int, Result]]:
    """Decisions with their ids, in order, from the one after `after` on; safe while another process writes.

    Raises:
        JournalError: it cannot be read.
    """
    rows = _query(path, "SELECT id, record FROM decisions WHERE id > ? ORDER BY id LIMIT ?", after, most)
    return [(number, _decode(record)) for number, record in rows]


def last_id(path: Path) -> int:
    """The newest decision's id, 0 when there is none.

    Raises:
        JournalError: it cannot be read.
    """
    return int(_query(path, "SELECT coalesce(max(id), 0) FROM decisions")[0][0])


def last_recipe(path: Path) -> int | None:
    """The number of the recipe that was made active last; None when none ever was.

    Raises:
        JournalError: it cannot be read.
    """
    rows = _query(path, "SELECT number FROM recipes ORDER BY id DESC LIMIT 1")
    return int(rows[0][0]) if rows else None


def read_all(path: Path) -> Iterator[tuple[int, Result]]:
    """The whole journal."""
    last = 0
    while rows := read(path, after=last):
        yield from rows
        last = rows[-1][0]


def _query(path: Path, query: str, *values: int) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise JournalError(f"journal {path} cannot be read: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=1.0)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    database.executescript(_SCHEMA)
    return database


def _insert(result: Result, database: sqlite3.Connection) -> int:
    return int(database.execute(_INSERT, _row(result)).lastrowid or 0)


def _insert_activation(made: Activation, in_time: Event, database: sqlite3.Connection) -> int:
    if not in_time.is_set():
        return 0
    last = database.execute(_LAST_REVISION, (made.number,)).fetchone()
    same = last is not None and last[1:] == (made.bundle, made.threshold)
    revision = last[0] if same else (last[0] if last is not None else 0) + 1
    values = (
        made.boot, made.active_utc, made.number, revision, made.name, made.bundle, made.threshold, made.asked_by,
    )  # fmt: skip
    database.execute(_ACTIVATE, values)
    return int(revision)


def _row(result: Result) -> tuple[object, ...]:
    return (
        result.boot, result.seq, result.part_id, result.verdict.value, result.score, result.threshold, result.reason,
        result.recipe, result.bundle, result.captured_utc, _encode(result),
    )  # fmt: skip
