"""The image's ingredients: what is pinned, and when it is built anew."""

import pytest

from numbercruncher import image


def test_the_requirements_are_those_of_the_lock_file() -> None:
    expected = image.locked_requirements(image.LOCK.read_text())
    assert image.REQUIREMENTS.read_text() == expected, (
        "run python -m numbercruncher.image --requirements"
    )


def test_of_an_entry_for_several_pythons_that_of_the_image_is_taken() -> None:
    lines = [f"{name}==1 \\\n    --hash=sha256:00" for name in image.PACKAGES if name != "numpy"]
    lines += [
        "numpy==2.4 ; python_full_version < '3.12' \\\n    --hash=sha256:01",
        "numpy==2.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:02",
    ]
    found = image.locked_requirements("\n".join(lines))
    assert "numpy==2.4 \\\n    --hash=sha256:01\n" in found
    assert "2.5" not in found


def test_a_package_that_is_not_locked_is_an_error() -> None:
    with pytest.raises(image.ImageError, match="boto3"):
        image.locked_requirements("numpy==1 \\\n    --hash=sha256:00\n")


@pytest.mark.docker
def test_an_image_of_the_same_content_is_not_built_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tests.containers import number_cruncher_image

    number_cruncher_image()
    capsys.readouterr()
    assert image.main([]) == 0
    assert capsys.readouterr().out == "The image numbercruncher is up to date.\n"
