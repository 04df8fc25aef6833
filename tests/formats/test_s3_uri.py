"""Addresses of S3: what a key may hold, and what is no address."""

import pytest

from formats import s3_uri
from formats.errors import FormatError

KEYS = [
    "a/b.txt",
    "a#b?c=d&e",
    "100%41%2F+ +.gz",
    "über/naïve~.txt",
    "a//b/",
    "/begins with a slash",
    "line\nbreak\r\t",
    "s3://another/key",
    "user@host:80;x",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_taken_as_it_stands(key: str) -> None:
    assert s3_uri.parse(f"s3://some-bucket/{key}") == ("some-bucket", key)


@pytest.mark.parametrize("uri", ["s3://some-bucket", "s3://some-bucket/"])
def test_a_bucket_by_itself_has_no_key(uri: str) -> None:
    assert s3_uri.parse(uri) == ("some-bucket", "")


@pytest.mark.parametrize("uri", ["", "s3://", "s3:///key", "https://b/k", "/b/k", " s3://b/k"])
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(FormatError, match="s3://bucket/key"):
        s3_uri.parse(uri)
