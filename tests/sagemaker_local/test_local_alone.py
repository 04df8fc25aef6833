"""The embedded SageMaker can be imported without the platform."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.sagemaker_local.rig import CHECKOUT

PROGRAM = """
import importlib, json, pkgutil, sys
import sagemaker_local as package
for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(json.dumps(sorted(sys.modules)))
"""


def test_it_can_be_imported_without_the_platform(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "sagemaker_local", tmp_path / "sagemaker_local")
    run = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert "sagemaker_local.__main__" in loaded
    packages = {name.split(".")[0] for name in loaded}
    assert packages & platform_packages() == {"sagemaker_local"}
    assert "docker" not in packages, "it is an extra, and takes time to load"


def platform_packages() -> set[str]:
    return {path.parent.name for path in CHECKOUT.glob("*/__init__.py")}
