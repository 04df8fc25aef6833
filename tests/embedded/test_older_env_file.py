"""A home whose env file is an earlier release's, which lacks the newer names: commands work."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedded import stack
from embedded.cli import app
from tests.embedded.listings_rig import write

DSN = "postgresql://me:secret@127.0.0.1:1/db"


def test_loading_takes_the_first_day_that_there_is_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    (tmp_path / "env").write_text(f"PLATFORM_POSTGRES_DSN={DSN}\n")
    csv = str(write(tmp_path / "a.csv", {}))
    before = CliRunner().invoke(app, ["load-listings", csv, "2014-12-31"])
    assert "from 2015-01-01 to" in before.stderr
    within = CliRunner().invoke(app, ["load-listings", csv, "2015-01-01"])
    assert "does not answer" in within.stderr


def test_only_what_it_names_is_shown() -> None:
    assert stack.urls({"PLATFORM_POSTGRES_DSN": DSN}) == {"Postgres": "postgresql://127.0.0.1:1/db"}
    assert stack.urls({"AWS_ENDPOINT_URL_S3": "http://x"}) == {"S3": "http://x"}
