from hypothesis import given
from hypothesis import strategies as st

from inspector.camera.clock import WINDOW_NS, CameraClock

MS = 1_000_000


def test_a_latched_clock_gives_the_exposure_itself() -> None:
    clock = CameraClock()
    clock.latch(before_ns=1000 * MS, camera_ns=70 * MS, after_ns=1002 * MS)
    assert clock.to_host(camera_ns=75 * MS, arrived_ns=1040 * MS) == 1006 * MS


def test_without_a_latch_the_shortest_delay_counts_as_none() -> None:
    clock = CameraClock()
    assert clock.to_host(10 * MS, 110 * MS) == 110 * MS
    assert clock.to_host(20 * MS, 117 * MS) == 117 * MS
    assert clock.to_host(30 * MS, 140 * MS) == 127 * MS  # thirteen milliseconds more than the quickest frame


def test_a_quick_frame_of_long_ago_is_forgotten() -> None:
    clock = CameraClock()
    clock.to_host(1, 1)
    for second in range(1, 40):
        late = clock.to_host(second * 10**9, second * 10**9 + 5 * MS)
    assert late == 39 * 10**9 + 5 * MS
    assert 3 * WINDOW_NS < 39 * 10**9


def test_a_camera_without_a_clock_exposes_on_arrival() -> None:
    clock = CameraClock()
    assert [clock.to_host(0, arrived) for arrived in (5, 6, 9)] == [5, 6, 9]


def test_a_clock_that_was_set_back_is_not_believed() -> None:
    clock = CameraClock()
    clock.to_host(50 * MS, 150 * MS)
    assert clock.to_host(3 * MS, 160 * MS) == 160 * MS


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=20), st.booleans())
def test_no_frame_is_exposed_after_it_arrived(frames: list[tuple[int, int]], latched: bool) -> None:
    clock = CameraClock()
    if latched:
        clock.latch(5, 1000, 7)
    for camera_ns, arrived_ns in frames:
        assert clock.to_host(camera_ns, arrived_ns) <= arrived_ns
