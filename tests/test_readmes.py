"""The READMEs and docs/ name files that there are."""

import re
import subprocess
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).parents[1]
FILES = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()
READMES = [
    file for file in FILES if PurePath(file).match("README.md") or PurePath(file).match("docs/*.md")
]
FOLDERS = sorted({file.split("/")[0] for file in FILES if "/" in file})
CODE = re.compile(r"```.*?```|`[^`]+`", re.DOTALL)
# Relative to the checkout: what stands behind another folder, an address or a variable is not.
PATH = re.compile(rf"(?<![\w./@:$-])(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*@-]*")
# What users make.
MADE = (
    "platform_assets/airbnb/busiest_hosts.py",
    "platform_assets/mnist/digit_counts.py",
    "deploy/.env",
    "deploy/platform.env",
    "deploy/private",
    "pipelines/KEY",
    "pipelines/NAME",
    "pipelines/lisbon",
    "pipelines/shapes",
)


@pytest.mark.parametrize("readme", READMES)
def test_a_path_in_code_is_there(readme: str) -> None:
    code = "\n".join(CODE.findall((ROOT / readme).read_text()))
    named = {path.rstrip("./") for path in PATH.findall(code)}
    # Some are named from the README's own folder.
    places = (ROOT, (ROOT / readme).parent)
    missing = {path for path in named if not any(any(one.glob(path)) for one in places)}
    assert not {path for path in missing if not path.startswith(MADE)}
