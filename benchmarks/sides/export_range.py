"""`WORKERS`: thirty dates of 100,000 rows to S3, so many of them at a time."""

import os
import sys

from listings_input import days, dsn, table
from listings_snapshot import ours
from stopwatch import Stopwatch

from resources.s3 import ObjectStore

DATES, ROWS = 30, 100_000
store = ObjectStore(bucket=os.environ["PLATFORM_AIRBNB_BUCKET"])
export = ours(dsn(), table(ROWS, DATES), "parquet", store)
# Publishing once more what is there would change nothing.
store.delete_prefix("airbnb/listings/")
with Stopwatch() as watch:
    exported = export(days(DATES), workers=int(sys.argv[1]))
watch.say(exported)
