"""The processes of a stack: finding them, ending them and their memory, without the supervisor.

Every process of a stack inherits a mark in its environment, the home's random stack id, so that
nothing of somebody else's can be taken for ours, not even under a pid that was ours once.
"""

import contextlib
import signal
import time
from pathlib import Path

import psutil

from embedded import postgres

MARK = "PLATFORM_STACK_ID"
_POLITE_SECONDS = 6.0


def marked(stack_id: str) -> list[psutil.Process]:
    """Live processes that carry the mark of this stack."""
    processes: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) != stack_id:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
    return processes


def of_stack(stack_id: str, postgres_data: Path) -> list[psutil.Process]:
    """All live processes of a stack, Postgres included."""
    by_pid = {process.pid: process for process in marked(stack_id)}
    by_pid |= {process.pid: process for process in postgres.processes(postgres_data)}
    return list(by_pid.values())


def end_all(stack_id: str, postgres_data: Path) -> int:
    """End every process of a stack: politely, then by force; also those that start meanwhile.

    psutil refuses to signal a pid that has another start time than the process that was found.

    Returns:
        How many there were.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + _POLITE_SECONDS
    asked: set[int] = set()
    while processes := of_stack(stack_id, postgres_data):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() > deadline:
                    process.kill()
                elif process.pid not in asked:
                    # Postgres takes TERM for "when all clients have left", INT for "now".
                    polite = signal.SIGINT if process.name() == "postgres" else signal.SIGTERM
                    process.send_signal(polite)
                    asked.add(process.pid)
        ended |= {process.pid for process in processes}
        psutil.wait_procs(processes, timeout=0.2)
    return len(ended)


def memory(pid: int) -> int:
    """Bytes held by a process and its descendants; 0 where there is none."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)] if pid else []
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            held = process.memory_full_info()
            total += getattr(held, "pss", held.rss)
    return total
