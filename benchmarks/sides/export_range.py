"""`WORKERS DELAY`: thirty dates of 100,000 rows to S3, so many of them at a time.

Each request to S3 takes `DELAY` seconds longer than it takes this machine.
"""

import os
import sys
import time

from listings_input import days, dsn, table
from listings_snapshot import ours
from stopwatch import Stopwatch

from resources.s3 import ObjectStore

DATES, ROWS = 30, 100_000
workers, delay = int(sys.argv[1]), float(sys.argv[2])
store = ObjectStore(bucket=os.environ["PLATFORM_AIRBNB_BUCKET"])
export = ours(dsn(), table(ROWS, DATES), "parquet", store)
# Publishing once more what is there would change nothing.
store.delete_prefix("airbnb/listings/")
if delay:
    store.client.meta.events.register("before-send.s3", lambda **_: time.sleep(delay))
with Stopwatch() as watch:
    exported = export(days(DATES), workers=workers)
watch.say(exported)
