"""From which day on there are partitions."""

import subprocess
import sys
from datetime import date

import pytest

from embedded.plan import FIRST_PARTITION
from platform_assets.partitions import DAILY
from platform_assets.settings import Settings
from tests.conftest import CHECKOUT, clean_environ

SHOW = "from platform_assets.partitions import DAILY; print(DAILY.get_first_partition_key())"


def test_partitions_begin_with_the_first_published_listings() -> None:
    assert DAILY.has_partition_key("2015-01-01")
    assert not DAILY.has_partition_key("2014-12-31")


@pytest.mark.parametrize("first", ["2020-02-29", "2012-12-31"], ids=["later", "earlier"])
def test_the_start_is_a_setting(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=CHECKOUT,
        env=clean_environ(PLATFORM_FIRST_PARTITION=first),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{first}\n"


def test_who_loads_listings_goes_by_the_platforms_own_default() -> None:
    assert date.fromisoformat(FIRST_PARTITION) == Settings.model_fields["first_partition"].default
