from hypothesis import given
from hypothesis import strategies as st

from inspector.camera.clock import MOST_TRANSPORT_NS, WINDOW_NS, CameraClock

MS = 1_000_000


def test_a_latched_clock_gives_the_exposure_itself() -> None:
    clock = CameraClock()
    clock.latch(before_ns=1000 * MS, camera_ns=70 * MS, after_ns=1002 * MS)
    assert clock.to_host(camera_ns=75 * MS, arrived_ns=1040 * MS, now_ns=1040 * MS) == 1005 * MS
    assert clock.is_exact


def test_a_frame_that_waited_to_be_looked_at_is_no_younger_for_it() -> None:
    clock = CameraClock()
    clock.latch(1000 * MS, 70 * MS, 1000 * MS)
    clock.to_host(75 * MS, 1020 * MS, 1020 * MS)
    assert clock.to_host(camera_ns=80 * MS, arrived_ns=1021 * MS, now_ns=1900 * MS) == 1010 * MS
    blind = CameraClock()
    assert blind.to_host(camera_ns=0, arrived_ns=1021 * MS, now_ns=1900 * MS) == 1021 * MS


def test_a_slow_latch_does_not_replace_a_quick_one_until_that_is_old() -> None:
    clock = CameraClock()
    clock.latch(1000 * MS, 0, 1001 * MS)
    clock.latch(1100 * MS, 200 * MS, 1300 * MS)
    assert clock.to_host(300 * MS, 1310 * MS, 1310 * MS) == 1300 * MS
    clock.latch(100_000 * MS, 99_000 * MS, 100_100 * MS)
    assert clock.to_host(99_200 * MS, 100_230 * MS, 100_230 * MS) == 100_200 * MS


def test_a_latch_of_another_clock_is_not_believed() -> None:
    for wrong_ns in (-10 * MOST_TRANSPORT_NS, 10 * MOST_TRANSPORT_NS):
        clock = CameraClock()
        clock.latch(1000 * MS, 70 * MS + wrong_ns, 1000 * MS)
        assert clock.to_host(75 * MS, 1040 * MS, 1040 * MS) == 1040 * MS
        assert not clock.is_exact


def test_without_a_latch_the_shortest_delay_counts_as_none() -> None:
    clock = CameraClock()
    assert clock.to_host(10 * MS, 110 * MS, 110 * MS) == 110 * MS
    assert clock.to_host(20 * MS, 117 * MS, 117 * MS) == 117 * MS
    assert clock.to_host(30 * MS, 140 * MS, 140 * MS) == 127 * MS  # thirteen milliseconds more than the quickest frame


def test_a_quick_frame_of_long_ago_is_forgotten() -> None:
    clock = CameraClock()
    clock.to_host(1, 1, 1)
    for second in range(1, 40):
        moment = second * 10**9 + 5 * MS
        late = clock.to_host(second * 10**9, moment, moment)
    assert late == 39 * 10**9 + 5 * MS
    assert 3 * WINDOW_NS < 39 * 10**9


def test_a_camera_without_a_clock_exposes_on_arrival() -> None:
    clock = CameraClock()
    assert [clock.to_host(0, arrived, arrived) for arrived in (5, 6, 9)] == [5, 6, 9]


def test_a_counter_that_is_no_clock_is_found_out() -> None:
    """Ticks of eight nanoseconds, taken for nanoseconds, would make every part older than the one before."""
    clock = CameraClock()
    ages_ms = [
        (now - clock.to_host(camera_ns=1 + now // 8, arrived_ns=now, now_ns=now)) / MS
        for now in range(10**9, 20 * 10**9, 100 * MS)
    ]
    assert not clock.is_clock
    assert max(ages_ms) < 2000
    assert set(ages_ms[25:]) == {0.0}


def test_a_clock_that_drifts_is_a_clock() -> None:
    clock = CameraClock()
    for now in range(10**9, 60 * 10**9, 100 * MS):
        clock.to_host(camera_ns=now + now // 10_000, arrived_ns=now, now_ns=now)
    assert clock.is_clock


def test_a_clock_that_was_set_back_is_not_believed() -> None:
    clock = CameraClock()
    clock.to_host(50 * MS, 150 * MS, 150 * MS)
    assert clock.to_host(3 * MS, 160 * MS, 160 * MS) == 160 * MS


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=20), st.booleans())
def test_no_frame_is_exposed_after_it_was_found(frames: list[tuple[int, int]], latched: bool) -> None:
    clock = CameraClock()
    if latched:
        clock.latch(5, 1000, 7)
    for camera_ns, found_ns in frames:
        assert clock.to_host(camera_ns, found_ns, found_ns) <= found_ns
