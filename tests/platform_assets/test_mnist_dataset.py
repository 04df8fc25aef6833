"""From the public object to SageMaker's channels, and what a bad public object gets."""

import gzip
import pickle
from collections.abc import Callable

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray

from formats import digit_images, mnist_pickle, recordio
from formats.errors import FormatError
from platform_assets.errors import describe_error
from platform_assets.mnist import dataset, raw
from platform_assets.settings import Settings, resources
from resources.s3 import ObjectStore, Publication, StoreError, StoreUnavailableError
from tests.platform_assets.conftest import Platform, failed_checks, reason_of

DATE, NEXT = "2026-01-05", "2026-01-06"
PUBLIC = "public/mnist.pkl.gz"
RAW, DATASET = "mnist/raw", "mnist/dataset"


def digits(count: int, seed: int = 0) -> mnist_pickle.Split:
    """Strokes that are no digits but have their form, with labels in turn."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.float32)
    images[:, 6:22, 10:18] = random.integers(0, 256, (count, 16, 8)) / 256
    return mnist_pickle.Split(images.reshape(count, 784), np.arange(count, dtype=np.int64) % 10)


def public_file(seed: int = 0) -> bytes:
    return mnist_pickle.dump(
        mnist_pickle.MnistDataset(digits(60, seed), digits(20, seed + 1), digits(20, seed + 2))
    )


def extract(platform: Platform, data: bytes) -> dg.ExecuteInProcessResult:
    platform.store.put_bytes(PUBLIC, data)
    return platform.run("digits", DATE, assets=[RAW, DATASET])


def channel(
    platform: Platform, name: str
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    data = platform.store.get_bytes(
        dataset.folder(platform.store, DATE).key(f"{name}/data.rec"), max_bytes=2**24
    )
    return recordio.decode(data)


def test_the_copy_is_the_public_object_to_the_byte(platform: Platform) -> None:
    data = public_file()
    extract(platform, data)
    assert platform.store.get_bytes(f"mnist/raw/date={DATE}/mnist.pkl.gz", max_bytes=2**24) == data


def test_the_channels_hold_every_digit_prepared_with_its_label(platform: Platform) -> None:
    extract(platform, public_file())
    # The standard library's unpickler as the oracle; the file is our own.
    splits = pickle.loads(gzip.decompress(public_file()), encoding="latin1")
    for name, (images, labels) in zip(("train", "validation", "test"), splits, strict=True):
        features, result = channel(platform, name)
        np.testing.assert_array_equal(features, digit_images.prepare(images))
        np.testing.assert_array_equal(result, labels)


def test_the_same_object_again_changes_no_object_in_the_store(platform: Platform) -> None:
    assert extract(platform, public_file()).success
    before = {item.key: item.etag for item in platform.store.list("mnist/")}
    assert extract(platform, public_file()).success
    assert {item.key: item.etag for item in platform.store.list("mnist/")} == before


def test_a_changed_object_is_taken_and_the_channels_are_made_anew(platform: Platform) -> None:
    extract(platform, public_file(seed=0))
    extract(platform, public_file(seed=9))
    images = pickle.loads(gzip.decompress(public_file(seed=9)), encoding="latin1")[0][0]
    np.testing.assert_array_equal(channel(platform, "train")[0], digit_images.prepare(images))


def test_a_range_of_dates_is_one_run_that_makes_each(platform: Platform) -> None:
    platform.store.put_bytes(PUBLIC, public_file())
    assert platform.run("digits", DATE, NEXT, assets=[RAW, DATASET]).success
    assert platform.materialized(DATASET) == {DATE, NEXT}
    assert dataset.folder(platform.store, NEXT).published() is not None


class Dangerous:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, ("1/0",)


def with_split(split: mnist_pickle.Split) -> bytes:
    pair = (split.images, split.labels)
    return gzip.compress(pickle.dumps((pair, pair, pair), protocol=2))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(public_file()[:-3000], "cut off", id="truncated"),
        pytest.param(b"<html>Not found</html>", "gzip", id="not gzip"),
        pytest.param(gzip.compress(b"hello"), "", id="gzip of something else"),
        pytest.param(gzip.compress(pickle.dumps(Dangerous(), protocol=2)), "eval", id="malicious"),
        pytest.param(
            with_split(mnist_pickle.Split(np.zeros((10, 100), np.float32), np.arange(10))),
            "784",
            id="wrong shape",
        ),
        pytest.param(
            with_split(mnist_pickle.Split(digits(10).images, np.arange(10) + 5)),
            "label",
            id="labels beyond 9",
        ),
    ],
)
def test_a_bad_object_fails_the_run_with_a_sentence_and_publishes_nothing(
    platform: Platform, data: bytes, words: str
) -> None:
    platform.store.put_bytes(PUBLIC, data)
    copied = platform.run("digits", DATE, assets=[RAW])
    result = platform.run("digits", DATE, assets=[DATASET])

    assert words in reason_of(result)
    assert "Traceback" not in reason_of(result)
    assert not list(platform.store.list("mnist/dataset/"))
    # What is no whole gzip file is noticed one step earlier.
    assert bool(failed_checks(copied)) == (words in ("cut off", "gzip"))


def test_a_missing_object_fails_the_run_and_names_it(platform: Platform) -> None:
    result = platform.run("digits", DATE, assets=[RAW, DATASET])
    assert f"s3://{platform.store.bucket}/{PUBLIC}" in reason_of(result)
    assert not list(platform.store.list("mnist/"))


def test_a_missing_bucket_fails_the_run_and_names_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.store.put_bytes(PUBLIC, public_file())
    monkeypatch.setenv("PLATFORM_BUCKET", "no-such-bucket-here")
    assert "no-such-bucket-here" in reason_of(platform.run("digits", DATE, assets=[RAW, DATASET]))


@pytest.mark.parametrize("odd", ["a#b.gz", "a?b=c", "a%41%2F", "a+b c", "größe~"])
def test_the_public_object_is_the_one_whose_key_stands_in_its_address(
    platform: Platform, odd: str
) -> None:
    platform.store.put_bytes(f"public/{odd}", odd.encode())
    public = raw.PublicMnist(uri=platform.store.uri(f"public/{odd}"))
    folder = raw.folder(platform.store, DATE)
    raw.copy_public(public, folder, DATE)
    copied = platform.store.get_bytes(folder.key(raw.FILE), max_bytes=100)
    assert copied == odd.encode()


@pytest.mark.parametrize("address", ["https://open-data/mnist.pkl.gz", "s3://open-data"])
def test_an_address_that_is_none_is_told_without_a_name_of_pythons(address: str) -> None:
    with pytest.raises(FormatError) as refused:
        raw.PublicMnist(uri=address).find(ObjectStore(bucket="digits"))
    assert describe_error(refused.value).startswith((address, repr(address)))
    assert "set it so" in describe_error(refused.value)


@pytest.mark.parametrize("gone", ["public/gone.gz", "no-such-bucket-here/mnist.pkl.gz"])
def test_a_public_object_that_is_gone_has_a_fallback_and_the_copy_says_which_it_was(
    platform: Platform, gone: str
) -> None:
    first = f"s3://{gone}" if "bucket" in gone else platform.store.uri(gone)
    second = platform.store.uri("public/second.gz")
    public = raw.PublicMnist(uri=first, fallback=second)
    folder = raw.folder(platform.store, DATE)
    with pytest.raises(StoreError, match=f"{first}.*{second}"):
        raw.copy_public(public, folder, DATE)  # neither is there
    platform.store.put_bytes("public/second.gz", b"second")
    copied = raw.copy_public(public, folder, DATE).metadata
    assert copied["source"] == second
    assert copied["instead_of"].startswith(f"{first}: ")
    assert raw.describe_public(public.find(platform.store))["dagster/uri"] == second
    if "bucket" not in gone:
        platform.store.put_bytes(gone, b"first")
        copied = raw.copy_public(public, folder, DATE).metadata
        assert (copied["source"], "instead_of" in copied) == (first, False)


def test_only_the_public_digits_are_replaced_by_public_ones() -> None:
    public = resources(Settings())["public"]
    assert (public.uri, public.fallback) == (raw.SAMPLE_DATA, raw.SAMPLE_FILES)
    own = resources(Settings(mnist_source="s3://own/mnist.pkl.gz"))["public"]
    assert (own.uri, own.fallback) == ("s3://own/mnist.pkl.gz", "")


def test_wrong_credentials_fail_the_run_without_telling_them(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-key")
    message = reason_of(platform.run("digits", DATE, assets=[RAW]))
    assert "credentials" in message.lower()
    assert "not-the-secret-key" not in message


def test_a_store_that_is_down_is_a_fault_that_may_pass_and_says_so(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = ObjectStore(bucket=platform.store.bucket, max_attempts=1)
    public = raw.PublicMnist(uri=platform.env["PLATFORM_MNIST_SOURCE"])
    with pytest.raises(StoreUnavailableError, match="AWS_ENDPOINT_URL_S3") as caught:
        raw.copy_public(public, raw.folder(store, DATE), DATE)
    assert caught.value.transient


@pytest.mark.parametrize("at", [-8, 2000], ids=["in the trailer", "in the middle"])
def test_the_intact_check_fails_on_an_altered_copy_and_the_next_run_repairs_it(
    platform: Platform, at: int
) -> None:
    assert extract(platform, public_file()).success
    altered = bytearray(public_file())
    altered[at] ^= 255
    folder = raw.folder(platform.store, DATE)
    platform.store.put_bytes(folder.key(raw.FILE), bytes(altered))

    assert not raw.judge_raw(folder).passed
    assert platform.run("digits", DATE, assets=[RAW, DATASET]).success
    assert raw.judge_raw(folder).passed


def test_a_channel_that_was_removed_is_made_again(platform: Platform) -> None:
    assert extract(platform, public_file()).success
    platform.store.delete(dataset.folder(platform.store, DATE).key("train/data.rec"))
    assert platform.run("digits", DATE, assets=[DATASET]).success
    assert len(channel(platform, "train")[0]) == 60


def test_a_copy_that_is_no_whole_file_stops_what_is_downstream(platform: Platform) -> None:
    result = extract(platform, public_file()[:-3000])
    assert "intact" in failed_checks(result)
    assert not platform.materialized(DATASET)


def with_labels(labels: NDArray[np.int64]) -> bytes:
    split = digits(len(labels))
    return with_split(mnist_pickle.Split(split.images, labels))


def test_the_balance_check_fails_on_a_file_of_mostly_one_digit(platform: Platform) -> None:
    result = extract(platform, with_labels(np.array([1] * 50 + list(range(10)), np.int64)))
    assert "balanced" in failed_checks(result)


@pytest.mark.parametrize(
    ("features", "labels", "words"),
    [
        pytest.param(np.full((10, 784), 255), np.arange(10), "outside of 0..1", id="0..255"),
        pytest.param(np.zeros((10, 784)), np.arange(10) + 1, "labels outside", id="label 10"),
        pytest.param(np.zeros((10, 100)), np.arange(10), "shape", id="100 pixels"),
    ],
)
def test_the_form_check_fails_on_channels_that_decode_to_something_else(
    platform: Platform, features: NDArray[np.float64], labels: NDArray[np.int64], words: str
) -> None:
    data = b"".join(recordio.encode(features.astype(np.float32), labels.astype(np.float32)))
    counts = {str(digit): 1 for digit in range(10)}
    folder = dataset.folder(platform.store, DATE)
    with Publication(folder) as publication:
        for name in dataset.CHANNELS:
            publication.put(dataset.channel_file(name), data)
        publication.commit(
            partition=DATE,
            rows=30,
            code_version="1",
            extra={"digits": dict.fromkeys(dataset.CHANNELS, counts)},
        )
    verdict = dataset.judge_form(folder)
    assert not verdict.passed
    assert words in verdict.description
