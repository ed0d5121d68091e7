"""The camera's clock on the host's: when a frame was exposed. Pure; knows no camera and no clock."""

WINDOW_NS = 10_000_000_000  # over which a delay counts as the shortest; 100 ppm drift by 1 ms in it


class CameraClock:
    """Maps a camera's timestamps to the host's monotonic clock.

    A latched pair (the camera's clock read between two readings of the host's) is exact to half the time that the
    reading took. Without one, the shortest delay between exposure and arrival within the last `WINDOW_NS` counts as
    none: a frame then looks younger than it is by that delay, never by more. A camera without a clock (all its
    timestamps are the same) has its frames exposed when they arrive.
    """

    def __init__(self) -> None:
        self._latched: int | None = None  # host - camera
        self._shortest: int | None = None  # least arrival - timestamp in this window
        self._earlier: int | None = None  # the same of the window before
        self._window_ends = 0
        self._last = 0  # timestamp

    def latch(self, before_ns: int, camera_ns: int, after_ns: int) -> None:
        """Take note that the camera's clock showed camera_ns between two moments of the host's."""
        self._latched = (before_ns + after_ns) // 2 - camera_ns

    def to_host(self, camera_ns: int, arrived_ns: int) -> int:
        """Host time of an exposure, never later than the frame's arrival.

        Args:
            camera_ns: the frame's timestamp; 0 when it has none.
            arrived_ns: host time at which the frame was there.
        """
        ticking = camera_ns > self._last
        self._last = camera_ns
        if not ticking:
            return arrived_ns
        if self._latched is not None:
            return min(camera_ns + self._latched, arrived_ns)
        return camera_ns + self._shortest_delay(arrived_ns - camera_ns, arrived_ns)

    def _shortest_delay(self, delay: int, now_ns: int) -> int:
        if now_ns >= self._window_ends:
            self._earlier, self._shortest = self._shortest, None
            self._window_ends = now_ns + WINDOW_NS
        self._shortest = delay if self._shortest is None else min(self._shortest, delay)
        return self._shortest if self._earlier is None else min(self._shortest, self._earlier)
