"""The camera's clock on the host's: when a frame was exposed. Pure; knows no camera and no clock.

A frame that looks younger than it is might be decided too late for its part, so every doubt makes it older.
"""

WINDOW_NS = 10_000_000_000  # over which a delay counts as the shortest; 100 ppm drift by 1 ms in it
QUICK_NS = 5_000_000  # a latch that took no longer is taken whatever came before
LATCH_LASTS_NS = 60_000_000_000  # after which a slow one is better than an old one
PROOF_NS = 2_000_000_000  # over which a clock must run as fast as ours, within a factor of `MOST_FACTOR`
MOST_FACTOR = 2  # a counter of frames or of ticks that are no nanoseconds is further off
MOST_TRANSPORT_NS = 1_000_000_000  # between exposure and arrival; a latch that says more is not believed


class CameraClock:
    """Maps a camera's timestamps to the host's monotonic clock.

    A latch (the camera's clock read between two readings of the host's) is exact to the time that it took. It is
    believed only while it agrees with what arrivals say: no frame arrives before its exposure, and the quickest within
    a second. Without one, the shortest delay between exposure and arrival within the last `WINDOW_NS` counts as none: a
    frame then looks younger than it is by that delay. A camera without a clock, or whose clock does not count
    nanoseconds, has its frames exposed when they arrive.
    """

    def __init__(self) -> None:
        self._latched: int | None = None  # host - camera
        self._latched_at_ns = 0
        self._arrivals = _Shortest()  # of what was there when it was looked for
        self._cautious = _Shortest()  # of what may have come earlier
        self._last = 0  # timestamp
        self._first: tuple[int, int] | None = None  # timestamp and host time from which the clock is proved
        self.is_clock = True  # until it is found not to run as fast as time

    def latch(self, before_ns: int, camera_ns: int, after_ns: int) -> None:
        """Take note that the camera's clock showed camera_ns between two moments of the host's."""
        stale = before_ns - self._latched_at_ns > LATCH_LASTS_NS
        if self._latched is None or stale or after_ns - before_ns <= QUICK_NS:
            self._latched, self._latched_at_ns = before_ns - camera_ns, before_ns

    @property
    def is_exact(self) -> bool:
        """Whether exposures are known by a latch that can be believed."""
        shortest = self._arrivals.known
        if self._latched is None or shortest is None:
            return False
        return shortest - MOST_TRANSPORT_NS <= self._latched <= shortest + QUICK_NS

    def to_host(self, camera_ns: int, arrived_ns: int, now_ns: int) -> int:
        """Host time of an exposure, never later than now.

        Args:
            camera_ns: the frame's timestamp; 0 when it has none.
            arrived_ns: the earliest moment at which the frame may have been there.
            now_ns: when it was found.
        """
        ticking = camera_ns > self._last
        self._last = camera_ns
        if arrived_ns == now_ns:  # it did not wait to be looked at
            self._prove(camera_ns, now_ns)
        if not ticking or not self.is_clock:
            return arrived_ns
        self._arrivals.add(now_ns - camera_ns, now_ns)
        cautious = self._cautious.add(arrived_ns - camera_ns, now_ns)
        if self.is_exact and self._latched is not None:
            return min(camera_ns + self._latched, now_ns)
        return min(camera_ns + cautious, now_ns)

    def _prove(self, camera_ns: int, now_ns: int) -> None:
        if self._first is None:
            self._first = (camera_ns, now_ns)
        passed_ns, counted_ns = now_ns - self._first[1], camera_ns - self._first[0]
        if passed_ns >= PROOF_NS and camera_ns:
            self.is_clock &= passed_ns < MOST_FACTOR * counted_ns and counted_ns < MOST_FACTOR * passed_ns
            self._first = (camera_ns, now_ns)


class _Shortest:
    """The least of the values of this window and the one before."""

    def __init__(self) -> None:
        self.known: int | None = None
        self._this: int | None = None
        self._earlier: int | None = None
        self._ends_ns = 0

    def add(self, value: int, now_ns: int) -> int:
        if now_ns >= self._ends_ns:
            self._earlier, self._this, self._ends_ns = self._this, None, now_ns + WINDOW_NS
        self._this = value if self._this is None else min(self._this, value)
        self.known = self._this if self._earlier is None else min(self._this, self._earlier)
        return self.known
