"""The fixtures of the alerts' tests: a platform whose records are on disk, shared by processes."""

from tests.monitoring.conftest import (  # noqa: F401 - fixtures are found by their names
    digits,
    endpoint,
    platform,
    platform_with_records_in_memory,
    records_with_schedules,
    rig,
    table,
)
