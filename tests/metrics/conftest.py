"""The platform as the tests of alerts have it: with records on disk, which processes share."""

from tests.monitoring.conftest import (  # noqa: F401 - fixtures are found by their names
    digits,
    endpoint,
    platform,
    platform_with_records_in_memory,
    records_with_schedules,
    rig,
    table,
)
