"""Postgres: a database as a resource; tables read in one snapshot, exported and profiled."""

from resources.postgres.casts import SourceColumn, can_cast
from resources.postgres.errors import (
    DatabaseAccessDeniedError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseRequestError,
    DatabaseUnavailableError,
    FilteredRowsError,
    TableMissingError,
    UnwritableValueError,
)
from resources.postgres.export import Exported, ExportFormat
from resources.postgres.fingerprint import Fingerprint
from resources.postgres.profile import Profile
from resources.postgres.query import Constant, Extract, HalfOpen, Query, Table
from resources.postgres.resource import PostgresResource
from resources.postgres.session import Session

__all__ = [
    "Constant",
    "DatabaseAccessDeniedError",
    "DatabaseBusyError",
    "DatabaseError",
    "DatabaseRequestError",
    "DatabaseUnavailableError",
    "ExportFormat",
    "Exported",
    "Extract",
    "FilteredRowsError",
    "Fingerprint",
    "HalfOpen",
    "PostgresResource",
    "Profile",
    "Query",
    "Session",
    "SourceColumn",
    "Table",
    "TableMissingError",
    "UnwritableValueError",
    "can_cast",
]
