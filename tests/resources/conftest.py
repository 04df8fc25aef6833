"""Fixtures of the S3 and Postgres tests: a fresh bucket and a fresh database, ready to use."""

from collections.abc import Iterator, Mapping
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from resources.s3 import ObjectStore


@pytest.fixture
def store(environment: Mapping[str, str], bucket: str) -> ObjectStore:
    """An empty bucket."""
    return ObjectStore(bucket=bucket, max_attempts=2)


@pytest.fixture
def writer(database: str) -> Iterator[Connection]:
    """A connection that changes the database, each statement at once."""
    with closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        yield connection
