"""The number cruncher's manifests and the platform's are one format, written twice."""

import pytest

from formats import manifest as platform_manifest
from numbercruncher.manifests import Column, File, Manifest, ManifestError, decode

MANIFEST = Manifest(
    partition="2026-11-22",
    rows=3,
    columns=(Column("id", "int64"), Column("neighbourhood", "string")),
    files=(File("listings.csv", 12, "0" * 64),),
    code_version="1",
    inputs={"airbnb/listings/date=2026-11-22/manifest.json": "1" * 64},
    extra={"note": None, "left_out": {}, "place": "Šibenik"},
)


def test_the_platform_reads_and_writes_the_same_bytes() -> None:
    data = MANIFEST.encode()
    assert platform_manifest.decode(data).encode() == data
    assert decode(data) == MANIFEST


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"version": 2}', id="another version"),
        pytest.param(b'{"version": 1, "partition": "2026-01-01"}', id="a part of it"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        decode(data)
