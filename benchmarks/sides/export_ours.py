"""`FORMAT ROWS`: a day's rows to S3, as the asset `airbnb/snapshot` does it."""

import os
import sys

from listings_input import days, dsn, table
from listings_snapshot import ours
from stopwatch import Stopwatch

from resources.s3 import ObjectStore

form, rows = sys.argv[1], int(sys.argv[2])
store = ObjectStore(bucket=os.environ["PLATFORM_AIRBNB_BUCKET"])
export = ours(dsn(), table(rows), form, store)
# Publishing once more what is there would change nothing.
store.delete_prefix("airbnb/listings/")
with Stopwatch() as watch:
    exported = export(days(1), workers=2)
watch.say(exported)
