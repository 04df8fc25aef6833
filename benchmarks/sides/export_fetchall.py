"""`ROWS`: a day's rows to S3 as the original did: all in memory, as rows, as text and as bytes."""

import csv
import io
import os
import sys
from contextlib import closing

import boto3
import psycopg2
from listings_input import days, dsn, table
from psycopg2 import sql
from stopwatch import Stopwatch

name = table(int(sys.argv[1]))
query = sql.SQL("select * from {} where download_date = %s order by id").format(
    sql.Identifier(name)
)
store = boto3.client("s3")
with Stopwatch() as watch:
    with closing(psycopg2.connect(dsn())) as connection, connection.cursor() as cursor:
        cursor.execute(query, days(1))
        rows = cursor.fetchall()
        header = [column[0] for column in cursor.description or ()]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    store.put_object(
        Bucket=os.environ["PLATFORM_AIRBNB_BUCKET"],
        Key="reference/listings.csv",
        Body=io.BytesIO(text.getvalue().encode()),
    )
watch.say(len(rows))
