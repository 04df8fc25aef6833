"""Times the work of a side, and says what the harness wants to know.

Needs nothing but the standard library: sides run in environments of their own.
"""

import json
import resource
import time
from types import TracebackType
from typing import Self


class Stopwatch:
    """`with Stopwatch() as watch: …work…`, then `watch.say(result)`.

    Attributes:
        seconds: Of the wall clock.
        cpu_seconds: User and system time of this process and of those children that have ended and
            been waited for.
    """

    def __enter__(self) -> Self:
        self._cpu = _cpu()
        self._begun = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._begun
        self.cpu_seconds = _cpu() - self._cpu

    def say(self, result: str | float, **more: str | float) -> None:
        """Prints time and result; `more` is printed too (`peak_mb`: instead of the process's)."""
        told = {"seconds": self.seconds, "cpu_s": round(self.cpu_seconds, 4), "result": result}
        print(json.dumps({**told, **more}))


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
