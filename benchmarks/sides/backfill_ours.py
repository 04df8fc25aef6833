"""365 dates in one run, and the last of them once more by itself, to compare with."""

from market_input import crunch_in_child, digest, forget, year
from stopwatch import Stopwatch

dates = year()
forget(dates)
with Stopwatch() as watch:
    crunch_in_child(dates)
result = digest(dates[-10:])
forget(dates[-1:])
with Stopwatch() as one:
    crunch_in_child(dates[-1:])
watch.say(
    result,
    one_date_s=round(one.seconds, 3),
    times_one_date=round(watch.seconds / one.seconds, 2),
)
