"""`NUMBER`: a day of the year, where as many snapshots are there; the best of several times."""

import sys
from collections.abc import Callable

from market_input import BUCKET, OUTPUTS, crunch_in_child, store, year
from stopwatch import Stopwatch

from numbercruncher.crunch import crunch
from numbercruncher.request import parse_request
from numbercruncher.store import Store
from platform_assets.airbnb.published_snapshots import snapshot_folder

TIMES = 5
number = int(sys.argv[1])
dates = year()[:number]
# In a place of their own, since a day also looks for what came after it.
place = f"first-{number}-days"
prefixes = {
    "listings_prefix": f"{place}/listings",
    **{f"{output}_prefix": f"{place}/{output}" for output in OUTPUTS},
}
for day in dates:
    for entry in store.list(snapshot_folder(store, day).key("")):
        name = entry.key.rpartition("/")[2]
        store.copy_from(store, entry.key, f"{place}/listings/date={day}/{name}")


def crunch_here(days: list[str]) -> None:
    """Runs the number cruncher in this process."""
    extras = {"bucket": BUCKET, "dates": days, "code_version": "1", **prefixes}
    messages = []
    crunch(Store(BUCKET), parse_request(extras), messages.append, print)
    if any(message["status"] == "failed" for message in messages):
        raise RuntimeError(str(messages))


def last_day(run: Callable[[list[str]], None]) -> Stopwatch:
    """The best time of the last day."""
    watches = []
    for _ in range(TIMES):
        for output in OUTPUTS:
            store.delete_prefix(f"{place}/{output}/date={dates[-1]}/")
        with Stopwatch() as watch:
            run(dates[-1:])
        watches.append(watch)
    return min(watches, key=lambda watch: watch.seconds)


crunch_here(dates[:-1])
in_process = last_day(crunch_here)
child = last_day(lambda days: crunch_in_child(days, **prefixes))
child.say(number, in_process_s=round(in_process.seconds, 4))
