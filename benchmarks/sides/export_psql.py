"""`ROWS`: a day's rows by psql into a local file, and that file to S3 by boto3's transfers."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from listings_input import days, dsn, table
from stopwatch import Stopwatch

from embedded import postgres

name, day = table(int(sys.argv[1])), days(1)[0]
query = f"select * from {name} where download_date = '{day}' order by id"
copy = f"\\copy ({query}) to listings.csv csv header"
store = boto3.client("s3")
with tempfile.TemporaryDirectory() as folder:
    psql = [str(postgres.program("psql")), "--quiet", "--no-psqlrc", "--command", copy, dsn()]
    with Stopwatch() as watch:
        subprocess.run(psql, cwd=folder, check=True)
        file = Path(folder, "listings.csv")
        store.upload_file(str(file), os.environ["PLATFORM_AIRBNB_BUCKET"], "reference/psql.csv")
    # No value of these tables has a line break in it.
    with file.open("rb") as lines:
        rows = sum(block.count(b"\n") for block in iter(lambda: lines.read(2**20), b"")) - 1
watch.say(rows)
