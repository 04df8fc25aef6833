"""Dagster's own command for projects, `dg`, finds the platform."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import CHECKOUT, clean_environ

DG = Path(sys.executable).with_name("dg")


def dg(*arguments: str) -> str:
    """What `dg` prints; fails the test where it fails."""
    done = subprocess.run(
        [DG, *arguments],
        cwd=CHECKOUT,
        env=clean_environ(VIRTUAL_ENV=str(CHECKOUT / ".venv"), DAGSTER_DISABLE_TELEMETRY="yes"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dg_checks_and_lists_what_the_platform_defines() -> None:
    dg("check", "toml")
    dg("check", "defs")
    listed = json.loads(dg("list", "defs", "--json"))
    keys = {asset["asset_key"] for asset in listed["assets"]}
    assert {"mnist/endpoint", "airbnb/price_changes"} <= keys
    assert {"digits", "listings"} <= {job["name"] for job in listed["jobs"]}
