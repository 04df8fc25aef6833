"""Commands work with an env file of an earlier release, which lacks the newer names."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedded import stack
from embedded.cli import app
from tests.embedded.listings_rig import write

DSN = "postgresql://me:secret@127.0.0.1:1/db"


def test_loading_uses_the_default_first_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    (tmp_path / "env").write_text(f"PLATFORM_POSTGRES_DSN={DSN}\n")
    csv = str(write(tmp_path / "a.csv", {}))
    before = CliRunner().invoke(app, ["load-listings", csv, "2014-12-31"])
    assert "from 2015-01-01 to" in before.stderr
    within = CliRunner().invoke(app, ["load-listings", csv, "2015-01-01"])
    assert "does not answer" in within.stderr


def test_only_variables_of_the_file_are_shown() -> None:
    assert stack.urls({"PLATFORM_POSTGRES_DSN": DSN}) == {"Postgres": "postgresql://127.0.0.1:1/db"}
    assert stack.urls({"AWS_ENDPOINT_URL_S3": "http://x"}) == {"S3": "http://x"}
