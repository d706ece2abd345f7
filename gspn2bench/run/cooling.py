"""Wait until the GPU has cooled before a case starts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gspn2bench.system import management

POLL_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Cooling:
    """The temperature at which a case may start.

    Args:
        below_c: a case starts only below this temperature of the GPU, degrees Celsius.
        limit_s: longest time to wait for one case, seconds.
    """

    below_c: float
    limit_s: float

    def wait(self, notify: Callable[[str], None]) -> str | None:
        """Wait until the GPU is cool.

        Args:
            notify: called with a short text while it is not.

        Returns:
            Why the case must not start: the limit has passed, or the temperature is unknown. None
            if it may start.
        """
        start = time.monotonic()
        while True:
            now_c = management.temperature_c()
            if now_c is None:
                return "cooling: the temperature of the GPU is unknown"
            if now_c < self.below_c:
                return None
            waited_s = time.monotonic() - start
            if waited_s >= self.limit_s:
                return (
                    f"cooling: the GPU is at {now_c:.0f} C after {self.limit_s:g} s, "
                    f"not below {self.below_c:g} C"
                )
            notify(f"cooling, {now_c:.0f} C")
            time.sleep(min(POLL_SECONDS, self.limit_s - waited_s))
