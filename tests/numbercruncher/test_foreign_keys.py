"""Objects in the platform's folders that are none of it: left alone, named, in nobody's way."""

from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from numbercruncher.dated import ForeignObjects, is_date
from numbercruncher.store import Store
from tests.numbercruncher.conftest import Crunch
from tests.numbercruncher.listings import put_snapshot, row
from tests.s3_front import in_front_of, with_keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ODD = (
    "notes.txt/x",
    " a space",
    "100%41 #1?+~é.txt",
    "line\nbreak",
    "tab\tand\rreturn",
    "quotes'\"<&>*|{}^`[]",
    "manifest.json/",
)


@pytest.mark.parametrize("folder", ["airbnb/listings", "airbnb/price_changes"])
@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(["date=x/manifest.json"], id="a folder that is no date's"),
        pytest.param(["date=2026-02-30/manifest.json"], id="no day of the calendar"),
        pytest.param(["date=2026-01-01/"], id="a folder's marker"),
        pytest.param(["date=2026-01-01/x/manifest.json"], id="a folder in a date's"),
        pytest.param([f"date=2026-01-01/{name}" for name in ODD[3:5]], id="no name for obstore"),
    ],
)
def test_a_foreign_object_is_named_once_and_changes_nothing(
    run: Crunch,
    client: "S3Client",
    bucket: str,
    objects: Callable[[str], dict[str, bytes]],
    warnings: list[str],
    folder: str,
    keys: list[str],
) -> None:
    for day in ("2026-01-01", "2026-01-02"):
        put_snapshot(client, bucket, day, [row(1, int(day[-2:]))])
    run("2026-01-01", "2026-01-02")
    right = objects("airbnb/price_changes/")
    for key in right:
        client.delete_object(Bucket=bucket, Key=key)
    assert not warnings
    for key in keys:
        client.put_object(Bucket=bucket, Key=f"{folder}/{key}", Body=b"")
    messages = run("2026-01-01", "2026-01-02")
    assert {message["status"] for message in messages.values()} == {"made"}
    foreign = {f"{folder}/{key}" for key in keys}
    assert {k: v for k, v in objects("airbnb/price_changes/").items() if k not in foreign} == right
    assert foreign <= set(objects(folder))
    assert len(warnings) == 1
    for key in foreign:
        assert warnings[0].count(repr(key)) == 1, warnings
    again = run("2026-01-01", "2026-01-02")
    assert {message["status"] for message in again.values()} == {"unchanged"}


def test_a_key_with_two_slashes_in_a_row_stops_nothing(
    run: Crunch,
    client: "S3Client",
    bucket: str,
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    warnings: list[str],
) -> None:
    """The embedded S3 takes them for one, so that a front of it has to show some."""
    put_snapshot(client, bucket, "2026-01-01", [row(1, 5)])
    put_snapshot(client, bucket, "2026-01-02", [row(1, 6)])
    keys = [
        "airbnb/listings/date=2026-01-01//notes.txt",
        "airbnb/listings/date=2026-01-02//manifest.json",
        "airbnb/price_changes/date=2026-01-02//manifest.json",
    ]
    with in_front_of(environment["AWS_ENDPOINT_URL_S3"]) as front:
        front.rewrite = with_keys(*keys)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", front.url)
        messages = run("2026-01-02")
        written = [target for method, target in front.requests if method != "GET"]
    assert messages["2026-01-02"]["status"] == "made"
    assert messages["2026-01-02"]["outputs"]["price_changes"]["metadata"]["snapshots"] == 2
    assert [key for key in keys if repr(key) in warnings[0]] == keys
    assert not [target for target in written if "//" in target]


def test_those_that_two_threads_see_at_once_are_all_counted() -> None:
    """The first is held in the middle of its count until the second is done or has to wait."""
    entered, go_on = Event(), Event()

    class Held(int):
        def __add__(self, other: int) -> int:
            if not entered.is_set():
                entered.set()
                go_on.wait()
            return int(self) + other

    foreign = ForeignObjects()
    foreign.count = Held(0)
    first, second = (Thread(target=foreign.add, args=(key,)) for key in "ab")
    first.start()
    entered.wait()
    second.start()
    second.join(0.5)
    go_on.set()
    first.join()
    second.join()
    assert foreign.count == 2


def test_many_foreign_objects_are_counted_and_a_few_named() -> None:
    foreign = ForeignObjects()
    for number in range(1000):
        foreign.add(f"airbnb/listings/date=x/{number}")
    sentence = foreign.sentence("a-bucket")
    assert "(1000): 'airbnb/listings/date=x/0', " in sentence
    assert sentence.count("date=x") == 5
    assert len(sentence) < 400


@pytest.mark.parametrize("name", [name for name in ODD if not {*"\n\t\r"} & {*name}][:-1])
def test_the_store_reads_the_object_that_a_key_names(
    client: "S3Client", environment: Mapping[str, str], bucket: str, name: str
) -> None:
    """Keys that an encoding or decoding too much would take for others; boto3 is the oracle."""
    store = Store(bucket)
    client.put_object(Bucket=bucket, Key=f"in/{name}", Body=b"boto3's")
    store.put(f"out/{name}", b"ours", "text/plain")
    assert store.get(f"in/{name}") == b"boto3's"
    assert client.get_object(Bucket=bucket, Key=f"out/{name}")["Body"].read() == b"ours"
    assert [entry.key for entry in store.entries("in")] == [f"in/{name}"]


def test_only_days_of_the_calendar_are_dates() -> None:
    assert is_date("2024-02-29")
    for text in ("2023-02-29", "20240229", "2024-W09-4", "x", "", "٢٠٢٤-٠٢-٢٩"):
        assert not is_date(text)
