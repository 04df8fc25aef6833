"""What is shown of the number cruncher's results: the biggest changes, a histogram, a map.

Everything is read from what is published. `pictures.newest` chooses the dates.
"""

import io
import json
from collections.abc import Collection, Mapping
from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from platform_assets.airbnb.published_snapshots import require_snapshot
from platform_assets.pictures import draw_histogram, draw_map, to_line, to_markdown, to_table
from platform_assets.tables.published_snapshots import read_columns
from resources.s3 import ObjectStore, Published

MAX_RESULT_BYTES = 512 * 2**20
_GROUPS = 10
_POINTS = 4000
_LABELS = 14


class Neighbourhoods:
    """Where listings are, by the snapshots of the days on which they were seen last.

    One for a run: on most days, the biggest changes are those of the day before.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: dict[tuple[str, Any], str | None] = {}

    def find(self, listings: Collection[tuple[str, Any]]) -> Mapping[tuple[str, Any], str | None]:
        """(day, id) → neighbourhood; None where the snapshot has none.

        Raises:
            resources.s3.NotPublishedError: A snapshot is not there any more.
        """
        unknown = [listing for listing in listings if listing not in self._known]
        for day in {day for day, _ in unknown}:
            ids = [id_ for of, id_ in unknown if of == day]
            self._known.update({(day, id_): None for id_ in ids})
            snapshot = require_snapshot(self._store, day)
            for batch in read_columns(snapshot, "id", "neighbourhood"):
                column = batch.column(0)
                # pyarrow makes its functions when it is imported.
                is_in: Any = pc.is_in  # pyright: ignore[reportAttributeAccessIssue]
                rows = batch.filter(is_in(column, pa.array(ids, column.type))).to_pylist()
                self._known.update({(day, row["id"]): row["neighbourhood"] for row in rows})
        return self._known


def show_price_changes(result: Published, places: Neighbourhoods) -> dict[str, Any]:
    """The five biggest rises and falls as tables, and how all changes are spread."""
    biggest: dict[str, list[dict[str, Any]]] = {
        name: json.loads(result.read(f"{name}.json", max_bytes=MAX_RESULT_BYTES))
        for name in ("biggest_increase", "biggest_decrease")
    }
    where = places.find(
        {(row["last_date"], row["id"]) for rows in biggest.values() for row in rows}
    )
    content = result.read("price_changes.parquet", max_bytes=MAX_RESULT_BYTES)
    column = pq.read_table(io.BytesIO(content), columns=["price_change_per_day"])
    return {
        **{
            name: to_table(
                ("change a day", "price", "days", "neighbourhood", "listing"),
                [
                    (
                        row["price_change_per_day"],
                        f"{row['first_price']:,.10g} → {row['last_price']:,.10g}",
                        (
                            Date.fromisoformat(row["last_date"])
                            - Date.fromisoformat(row["first_date"])
                        ).days,
                        where[row["last_date"], row["id"]],
                        row["id"],
                    )
                    for row in rows
                ],
            )
            for name, rows in biggest.items()
        },
        "changes": _draw_changes(column["price_change_per_day"].to_numpy()),
    }


def _draw_changes(changes: NDArray[np.float64]) -> dg.MarkdownMetadataValue:
    """How the changes are spread; of 100, the outermost two are in the last bars."""
    moved = changes[changes != 0]
    if not len(moved):
        return dg.MetadataValue.md("No listing has changed its price yet.")
    reach = float(np.quantile(np.abs(moved), 0.98))
    return to_markdown(
        draw_histogram(moved, reach),
        "Price changes",
        f"{len(moved):,} of {len(changes):,} listings changed: from {-reach:,.3g} to {reach:,.3g} "
        "a day",
    )


def show_neighbourhoods(result: Published, snapshot: Published) -> dict[str, Any]:
    """The biggest groups as a table; and a map, where the snapshot has coordinates."""
    content = result.read("neighbourhood_summary.json", max_bytes=MAX_RESULT_BYTES)
    groups = sorted(json.loads(content), key=lambda group: -group["listings"])
    table = to_table(
        ("neighbourhood", "room type", "listings", "median", "quartiles"),
        [
            (
                group["neighbourhood"],
                group["room_type"],
                group["listings"],
                group["median"],
                f"{group['lower_quartile']:,.10g} – {group['upper_quartile']:,.10g}"
                if group["priced"]
                else None,
            )
            for group in groups[:_GROUPS]
        ],
    )
    drawn = _draw_medians(snapshot)
    return {"biggest_groups": table, **({"median_prices": drawn} if drawn else {})}


def _draw_medians(snapshot: Published) -> dg.MarkdownMetadataValue | None:
    """Listings at their places, in the colour of the median price of their neighbourhood."""
    columns = ("longitude", "latitude", "price", "neighbourhood")
    types = {column.name: column.type for column in snapshot.manifest.columns}
    if any(types.get(name) != "double" for name in columns[:3]):
        return None
    batches = list(read_columns(snapshot, *columns))
    if not batches:
        return None
    rows = pa.Table.from_batches(batches)
    longitude, latitude, price = (rows[name].to_numpy().astype(np.float64) for name in columns[:3])
    areas = rows["neighbourhood"].cast(pa.string()).combine_chunks().dictionary_encode()
    names = areas.dictionary.to_pylist()
    area = areas.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    located = np.isfinite(longitude) & np.isfinite(latitude) & (area >= 0)
    medians = np.full(len(names), np.nan)
    labels: list[tuple[int, tuple[float, float, str]]] = []
    for number, name in enumerate(names):
        in_area = located & (area == number)
        priced = price[in_area & np.isfinite(price)]
        if len(priced):
            medians[number] = np.median(priced)
            middle = (float(np.median(longitude[in_area])), float(np.median(latitude[in_area])))
            labels.append(
                (int(in_area.sum()), (*middle, f"{to_line(name)[:18]} {medians[number]:,.0f}"))
            )
    shown = np.flatnonzero(located)
    shown = shown[np.isfinite(medians[area[shown]])]
    # Evenly spread over the ids, so that the same snapshot gives the same picture.
    shown = shown[:: -(-len(shown) // _POINTS) or 1]
    if not len(shown):
        return None
    labels.sort(key=lambda label: (-label[0], label[1][2]))
    image = draw_map(
        longitude[shown],
        latitude[shown],
        medians[area[shown]],
        [label for _, label in labels[:_LABELS]],
        "Median price of a night by neighbourhood",
    )
    return to_markdown(image, "Map of median prices by neighbourhood")
