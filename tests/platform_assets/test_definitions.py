"""What Dagster loads."""

from pathlib import Path

import dagster as dg
import pytest

from platform_assets.definitions import build_defs

MODULES = {
    "mnist/raw": "mnist/raw.py",
    "mnist/dataset": "mnist/dataset.py",
    "mnist/model": "mnist/model.py",
    "mnist/classifier": "mnist/classifier.py",
    "mnist/endpoint": "mnist/endpoint.py",
    "airbnb/snapshot": "airbnb/snapshots.py",
    "airbnb/price_changes": "airbnb/processed.py",
    "airbnb/neighbourhood_summary": "airbnb/processed.py",
}


@pytest.mark.parametrize("key", MODULES)
def test_an_asset_links_to_the_code_that_makes_it(key: str) -> None:
    definition = build_defs().resolve_assets_def(dg.AssetKey(key.split("/")))
    (spec,) = (spec for spec in definition.specs if spec.key.to_user_string() == key)
    value = spec.metadata["dagster/code_references"]
    assert isinstance(value, dg.CodeReferencesMetadataValue)
    first = value.code_references[0]
    assert isinstance(first, dg.LocalFileCodeReference)
    assert first.file_path.endswith(f"platform_assets/{MODULES[key]}")
    assert first.line_number
    assert first.line_number <= len(Path(first.file_path).read_text().splitlines())


@pytest.mark.parametrize(("query", "name"), [("", "downloads"), ("select 1", None)])
def test_the_listings_name_their_table(
    query: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_LISTINGS_TABLE", "downloads")
    monkeypatch.setenv("PLATFORM_LISTINGS_QUERY", query)
    listings = dg.AssetKey(["airbnb", "listings"])
    spec = build_defs().resolve_assets_def(listings).get_asset_spec(listings)
    assert spec.metadata.get("dagster/table_name") == name
