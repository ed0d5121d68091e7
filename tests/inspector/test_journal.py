"""The journal on real disks: killed, full, hanging. What it said it has, it has."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inspector.inspection import Verdict
from inspector.journal import Journal, JournalError, last_id, read, read_all
from inspector.messages import Result

SENT = "2026-01-02T03:04:05.000006+00:00"


def result(seq: int, verdict: Verdict = Verdict.ACCEPT, boot: str = "b") -> Result:
    return Result(
        station="line1", boot=boot, seq=seq, sent_utc=SENT, part_id=f"p{seq}", sequence=seq, verdict=verdict,
        score=0.5, threshold=1.0, reason="", parts={"maps": 0.5}, recipe="tray", bundle="tray-1", deadline_ms=100.0,
        captured_ns=seq, captured_utc=SENT, timings={"infer_ms": 1.0},
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "decisions.sqlite"


def test_decisions_are_read_as_they_were_written_in_their_order(path: Path) -> None:
    with Journal(path, reserve_bytes=4096) as journal:
        ids = [journal.append(result(seq), 5.0) for seq in (1, 2, 3)]
        assert [number for number, _ in read(path)] == ids == [1, 2, 3]
        assert [found for _, found in read(path, after=1)] == [result(2), result(3)]
    with Journal(path, reserve_bytes=4096) as journal:
        assert journal.append(result(1, boot="c"), 5.0) == 4
    assert len(list(read_all(path))) == 4


def test_plain_sqlite_tells_what_was_decided(path: Path) -> None:
    with Journal(path, reserve_bytes=4096) as journal:
        journal.append(result(1, Verdict.REJECT), 5.0)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT part_id, verdict FROM decisions").fetchall() == [("p1", "reject")]
    database.close()


def test_a_journal_that_cannot_be_written_says_so_until_it_can(path: Path) -> None:
    with Journal(path, reserve_bytes=4096) as journal:
        assert journal.append(result(1), 5.0) == 1
        assert journal._database is not None
        journal._database.execute("PRAGMA query_only = ON")
        assert journal.append(result(2), 5.0) is None
        assert "cannot be written (attempt to write a readonly database)" in journal.alarm
        journal._database.execute("PRAGMA query_only = OFF")
        assert journal.append(result(3), 5.0) == 2
        assert journal.alarm == ""
    assert last_id(path) == 2


def test_a_file_that_is_no_journal_is_named_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match=r"decisions\.sqlite cannot be opened"), Journal(path):
        pass
    assert path.read_bytes() == b"no database" * 1000


def test_a_journal_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        read(tmp_path / "none.sqlite")


def test_a_disk_that_hangs_stalls_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path, reserve_bytes=4096) as journal:
        write = journal._write_somehow

        def hanging(entry: Callable[[sqlite3.Connection], int]) -> int:
            time.sleep(0.5)
            return write(entry)

        monkeypatch.setattr(journal, "_write_somehow", hanging)
        started = time.monotonic()
        assert journal.append(result(1), 0.05) is None
        assert [journal.append(result(seq), 0.0) for seq in range(2, 100)] == [None] * 98
        assert time.monotonic() - started < 0.4
        monkeypatch.setattr(journal, "_write_somehow", write)


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from tests.inspector.test_journal import result
from inspector.journal import Journal
with Journal(Path({path!r}), reserve_bytes=4096) as journal:
    seq = 0
    while True:
        seq += 1
        print(journal.append(result(seq), 10.0), flush=True)
"""


def test_what_was_said_to_be_on_disk_is_there_after_a_kill(path: Path) -> None:
    root = str(Path(__file__).parents[2])
    script = KILLED.format(path=str(path), paths=[root])
    process = subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert said == list(range(1, 201))
    kept = [number for number, _ in read_all(path)]
    assert kept[: len(said)] == said
    with Journal(path, reserve_bytes=4096) as journal:
        assert journal.append(result(1, boot="after"), 5.0) == kept[-1] + 1


FULL = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
from tests.inspector.test_journal import result
from inspector.journal import Journal, read_all
disk = Path({disk!r})
with Journal(disk / "decisions.sqlite", reserve_bytes=2 << 20) as journal:
    assert journal.append(result(1), 5.0) == 1
    with (disk / "picture.png").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    written = 1
    for seq in range(2, 200_000):
        started = time.monotonic()
        number = journal.append(result(seq), 5.0)
        assert time.monotonic() - started < 4
        if number is None:
            break
        written = number
        assert written < 300 or "uses the space kept aside" in journal.alarm
    assert written > 1000, written
    assert "parts are not inspected" in journal.alarm, journal.alarm
    (disk / "picture.png").unlink()
    assert journal.append(result(200_001), 5.0) == written + 1
    assert journal.alarm == "", journal.alarm
    assert (disk / "decisions.sqlite.reserve").stat().st_size == 2 << 20
assert [number for number, _ in read_all(disk / "decisions.sqlite")] == list(range(1, written + 2))
print("fine")
"""


def test_a_disk_full_of_pictures_stops_no_decision_before_its_own_space_is_used_up(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "full.py"
    script.write_text(FULL.format(disk=str(disk), paths=[root]))
    shell = f"mount -t tmpfs -o size=8m tmpfs {disk} && exec {sys.executable} {script}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell]
    try:
        done = subprocess.run(  # noqa: S603 - a small disk of its own
            command, capture_output=True, text=True, check=False, timeout=150
        )
    except FileNotFoundError:
        pytest.skip("no unshare here: a small disk cannot be made")
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"a small disk cannot be made here: {done.stderr.strip()}")
    assert done.stdout.strip() == "fine", done.stderr
