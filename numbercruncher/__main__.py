"""`python -m numbercruncher`: runs in a container or a child process, started by Dagster Pipes.

Exits 0 even if single dates failed, since each date is reported by a message of its own. Exits 1,
with the reason in the last line of the log, if nothing could be done.
"""

import sys
import time
from typing import Any

import pyarrow as pa
from dagster_pipes import PipesContext, open_dagster_pipes

from numbercruncher.crunch import EngineMaker, crunch
from numbercruncher.errors import CruncherError
from numbercruncher.request import parse_request
from numbercruncher.store import Store


def main(opened: PipesContext, make_engine: EngineMaker | None = None) -> int:
    """Crunches what the Pipes context asks for.

    Args:
        opened: what `open_dagster_pipes` gives; closed here.
        make_engine: what computes; pandas, in this process, where None.

    Returns:
        The exit code.
    """
    with opened as pipes:
        try:
            _run(pipes, make_engine)
        except CruncherError as error:
            failure = str(error)
        else:
            return 0
    _log(failure)
    return 1


def _run(pipes: PipesContext, make_engine: EngineMaker | None) -> None:
    request = parse_request(pipes.extras)
    counts = dict.fromkeys(("made", "unchanged", "failed"), 0)
    started = time.monotonic()

    def report(message: dict[str, Any]) -> None:
        counts[message["status"]] += 1
        pipes.report_custom_message(message)
        _log(f"{message['date']} {message['status']} {message['error'] or ''}".rstrip())

    store = Store(request.bucket, request.kms_key_id)
    outdated = crunch(store, request, report, pipes.log.warning, make_engine)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    _log(f"{summary} in {time.monotonic() - started:.2f} s")
    if outdated:
        pipes.report_custom_message({"outdated": outdated})
        pipes.log.warning(
            f"The price changes of {len(outdated)} dates ({outdated[0]} to {outdated[-1]})"
            " were made of other snapshots than exist now; materialise them again."
        )


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    # The system's allocator returns memory sooner than Arrow's own, and a day's tables are small.
    pa.set_memory_pool(pa.system_memory_pool())
    sys.exit(main(open_dagster_pipes()))
