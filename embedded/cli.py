"""The command line behind the Makefile's targets: up, down, status, demo, load-listings.

It parses arguments, prints for people and sets the exit status; `stack`, `demo` and `load_listings`
do the work.
"""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from embedded import stack
from embedded.dagster_parts import ui_url
from embedded.errors import StackError
from embedded.home import write_private
from embedded.plan import (
    FIRST_PARTITION,
    home_from,
    keep_first_partition,
    kept_first_partition,
    make_plan,
    read_env_file,
)

app = typer.Typer(
    help="The platform on one machine.", no_args_is_help=True, pretty_exceptions_enable=False
)
_console = Console(highlight=False)


@app.command()
def up() -> None:
    """Start the services, Dagster's UI and the digit page in the background."""
    with _failing_in_one_sentence():
        plan = make_plan()
        running = _start(plan)
        _print_urls(stack.urls(running.env))
        _console.print(f"For clients in a shell:  set -a; . {plan.home.env_file}; set +a")


@app.command()
def down() -> None:
    """Stop all of it; the data stay."""
    with _failing_in_one_sentence():
        home = home_from()
        with _console.status("Stopping …"):
            ended = stack.down(home, say=_console.print)
        _console.print(f"Stopped {ended} processes." if ended else "Nothing ran.")


@app.command()
def status() -> None:
    """What runs and where, and what it holds of memory."""
    with _failing_in_one_sentence():
        home = home_from()
        programs = stack.status(home)
        if not programs:
            _console.print("Nothing runs. `make up` starts everything.")
            return
        table = Table("program", "state", "process", "since (UTC)", "MB")
        for name, (state, held) in programs.items():
            since = datetime.fromtimestamp(state.since, UTC).strftime("%Y-%m-%d %H:%M:%S")
            columns = [str(state.pid), since, f"{held / 1e6:.0f}"] if state.pid else ["", "", ""]
            table.add_row(name, state.status.lower(), *columns)
        _console.print(table)
        # There is none yet while the very first `up` is at work.
        if home.env_file.exists():
            _print_urls(stack.urls(read_env_file(home)))


@app.command()
def demo() -> None:
    """Set up, start the services, run both pipelines, show what came out."""
    with _failing_in_one_sentence():
        # It needs much that the other commands don't.
        from embedded import demo as demonstration

        home = make_plan().home
        if not home.env_file.exists():
            # Dagster shows how many of all its partitions there are: those of the demo alone.
            keep_first_partition(home, demonstration.demo_dates()[0])
        plan = make_plan()
        outcome = demonstration.run(lambda: _start(plan), ui_url(plan), _console)
        print(json.dumps(asdict(outcome)))


@app.command()
def load_listings(
    csv: Annotated[Path, typer.Argument(help="An Inside Airbnb file, summary or detailed")],
    date: Annotated[str, typer.Argument(help="The day it was downloaded, YYYY-MM-DD")],
    *,
    allow_rounded_ids: Annotated[
        bool, typer.Option("--allow-rounded-ids", help="Take ids that lost digits all the same")
    ] = False,
) -> None:
    """Put an Inside Airbnb file into the table of listings."""
    with _failing_in_one_sentence():
        from embedded import load_listings as loading

        home = home_from()
        environment = read_env_file(home)
        first = environment.get("PLATFORM_FIRST_PARTITION", FIRST_PARTITION)
        is_ours = first == kept_first_partition(home)
        rows = loading.load(
            environment["PLATFORM_POSTGRES_DSN"],
            csv,
            date,
            first=FIRST_PARTITION if is_ours else first,
            allow_rounded_ids=allow_rounded_ids,
            say=_console.print,
        )
        _console.print(f"The table `listings` has {rows:,} rows for {date} now.")
        if date < first:
            keep_first_partition(home, date)
            _console.print(
                f"Dagster's partitions begin on {first}: `make up` lets them begin on {date}."
            )


def _print_urls(urls: dict[str, str]) -> None:
    for title, url in urls.items():
        _console.print(f"  {title:<13} {url}", soft_wrap=True)


def _start(plan: stack.Plan) -> stack.Running:
    with _console.status("Starting …"):
        running = stack.up(plan, say=_console.print)
    how = "Everything is up" if running.started else "Everything was running already"
    _console.print(f"{how} ({running.seconds:.1f} s).")
    return running


@contextmanager
def _failing_in_one_sentence() -> Iterator[None]:
    try:
        yield
    except StackError as error:
        _give_up(str(error), 1)
    except KeyboardInterrupt:
        _give_up("Interrupted. `make down` stops what may still run.", 130)
    except Exception as error:
        _give_up(f"{_sentence(error)} {_kept_in_full()}", 1)


def _sentence(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{words} ({type(error).__name__})." if words else f"{type(error).__name__}."


def _kept_in_full() -> str:
    log = home_from().logs / "error.log"
    try:
        write_private(log, traceback.format_exc())
    except (OSError, StackError):
        return "Its traceback could not be kept."
    return f"Its traceback is in {log}."


def _give_up(sentence: str, code: int) -> None:
    print(sentence, file=sys.stderr)
    raise typer.Exit(code)
