"""The image's ingredients: what is pinned, and when it is built anew."""

import re
from pathlib import Path

import pytest

from numbercruncher import image

ROOT = Path(image.__file__).parents[1]
ENTRY = re.compile(
    r"^(?P<package>[a-z0-9-]+)==(?P<version>\S+)(?P<marker> ;[^\\\n]*)?(?P<hashes>(\s\\\n +\S+)+)",
    re.M,
)


def entries(file: str) -> dict[tuple[str, str], set[str]]:
    """The hashes of each package and version that holds for the image's Python, 3.11."""
    text = (ROOT / file).read_text()
    return {
        (entry["package"], entry["version"]): set(re.findall(r"sha256:\w+", entry["hashes"]))
        for entry in ENTRY.finditer(text)
        if ">= '3.12'" not in (entry["marker"] or "")
    }


def test_the_requirements_are_those_of_the_lock_file() -> None:
    locked = entries("requirements.lock")
    required = entries("numbercruncher/requirements.txt")
    packages = {package for package, _ in required}
    assert required == {key: locked[key] for key in locked if key[0] in packages}, "run make lock"
    direct = (ROOT / "numbercruncher/requirements.in").read_text().splitlines()[1:]
    assert set(direct) <= packages


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("BASE_IMAGE", "127.0.0.1:1/nothing:1"),
        ("--base", "127.0.0.1:1/nothing"),
        ("--base", f"127.0.0.1:1/nothing@sha256:{'0' * 64}"),
    ],
)
@pytest.mark.docker
def test_a_base_that_cannot_be_fetched_is_an_error_that_says_what_to_do(
    name: str, base: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.containers import engine

    engine().close()
    arguments = ["--image", "numbercruncher-never-built"]
    if name == "BASE_IMAGE":
        monkeypatch.setenv(name, base)
    else:
        arguments += [name, base]
    assert image.main(arguments) == 1
    message = capsys.readouterr().out
    assert f"base image {base} cannot be fetched" in message
    assert "127.0.0.1:1/v2/" in message  # the engine understood the name, and asked there
    assert "make image BASE_IMAGE=NAME" in message


@pytest.mark.docker
def test_an_image_of_the_same_content_is_not_built_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.containers import number_cruncher_image

    number_cruncher_image()
    capsys.readouterr()
    assert image.main([]) == 0
    assert capsys.readouterr().out == "The image numbercruncher is up to date.\n"
