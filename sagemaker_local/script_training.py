"""Script mode's `train`: runs a user's script as SageMaker's framework images do.

A program of its own, run by the Python that the table of images names: it imports nothing but the
standard library. The server has unpacked the sources into the folder `code`.
Source: https://github.com/aws/sagemaker-training-toolkit/blob/master/ENVIRONMENT_VARIABLES.md
"""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

_PREFIX = "sagemaker_"
# Hyperparameters without the prefix that are for the image; the script does not see them either.
_FOR_THE_IMAGE = ("_tuning_objective_metric", "default_user_module_name")
_ERROR_LINES = 20
_LAST_LINES_SECONDS = 5.0
_ERROR_CHARACTERS = 600


def main() -> int:
    """Runs the script; its last words on standard error become the job's reason if it fails."""
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    given = {name: _decoded(text) for name, text in _configuration(base, "hyperparameters").items()}
    program = str(given.get("sagemaker_program") or os.environ.get("SAGEMAKER_PROGRAM", ""))
    if not program or not (base / "code" / program).is_file():
        reason = (
            "there is no script: sagemaker_program has to name a file in the archive that "
            f"sagemaker_submit_directory names, not {program!r}"
        )
        return _fail(base, reason, 1)
    parameters = {
        name: value
        for name, value in given.items()
        if not name.startswith(_PREFIX) and name not in _FOR_THE_IMAGE
    }
    arguments = _arguments(parameters)
    facts = _facts(base, given, program)
    variables = {
        **{name: value for name, value in facts.items() if name != "channel_input_dirs"},
        **{f"channel_{name}": folder for name, folder in facts["channel_input_dirs"].items()},
        **{f"hp_{name}": value for name, value in parameters.items()},
        "channels": sorted(facts["channel_input_dirs"]),
        "hps": parameters,
        "training_env": {**facts, "hyperparameters": parameters},
        "user_args": arguments,
    }
    return _run(
        base,
        program,
        arguments,
        {f"SM_{name.upper()}": _text(value) for name, value in variables.items()},
    )


def _arguments(parameters: dict[str, Any]) -> list[str]:
    """Hyperparameters as the script's arguments: `--name value`, in order of their names."""
    arguments: list[str] = []
    for name, value in sorted(parameters.items()):
        arguments.append(f"--{name}" if len(name) > 1 else f"-{name}")
        if isinstance(value, dict):
            arguments.append(",".join(f"{key}={item}" for key, item in sorted(value.items())))
        else:
            arguments.append("" if value is None else str(value))
    return arguments


def _facts(base: Path, given: dict[str, Any], program: str) -> dict[str, Any]:
    """What the toolkit calls the training environment."""
    resources = _configuration(base, "resourceconfig")
    channels = _configuration(base, "inputdataconfig")
    data = base / "input" / "data"
    return {
        "channel_input_dirs": {name: str(data / name) for name in channels},
        "current_host": resources["current_host"],
        "current_instance_group": resources["current_group_name"],
        "current_instance_type": resources["current_instance_type"],
        "framework_params": {
            name: value for name, value in given.items() if name.startswith(_PREFIX)
        },
        "hosts": resources["hosts"],
        "input_config_dir": str(base / "input" / "config"),
        "input_data_config": channels,
        "input_dir": str(base / "input"),
        "is_master": resources["current_host"] == resources["hosts"][0],
        "job_name": os.environ.get("TRAINING_JOB_NAME", ""),
        "log_level": given.get("sagemaker_container_log_level", 20),
        "master_hostname": resources["hosts"][0],
        "model_dir": str(base / "model"),
        "module_dir": given.get("sagemaker_submit_directory", str(base / "code")),
        "module_name": Path(program).stem,
        "network_interface_name": resources["network_interface_name"],
        "num_cpus": os.cpu_count() or 1,
        "num_gpus": 0,
        "num_neurons": 0,
        "output_data_dir": str(base / "output" / "data"),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output" / "intermediate"),
        "resource_config": resources,
        "user_entry_point": program,
    }


def _run(base: Path, program: str, arguments: list[str], variables: dict[str, str]) -> int:
    code = base / "code"
    if (code / "requirements.txt").exists():
        print(
            f"requirements.txt is not installed: {sys.executable} is used with what it has.",
            flush=True,
        )
    interpreter = "/bin/sh" if program.endswith(".sh") else sys.executable
    command = [interpreter, program, *arguments]
    # What the server names is where pip installs, if the script should call it.
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    # A stop is signalled to the whole group: the script decides what to do.
    signal.signal(signal.SIGTERM, lambda *_: None)
    last: collections.deque[str] = collections.deque(maxlen=_ERROR_LINES)
    process = subprocess.Popen(
        command,
        cwd=code,
        env={**os.environ, **variables, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    # The script's end counts, not that of its standard error: what it leaves running has it, too.
    reader = threading.Thread(target=_pass_on, args=(process.stderr, last), daemon=True)
    reader.start()
    process.wait()
    reader.join(_LAST_LINES_SECONDS)
    status = process.returncode if process.returncode >= 0 else 128 - process.returncode
    if status == 0:
        return 0
    words = _last_words("".join(last).strip())
    reason = (
        f'ExecuteUserScriptError:\nExitCode {status}\nErrorMessage "{words}"\n'
        f'Command "{" ".join(command)}"'
    )
    return _fail(base, reason, status)


def _pass_on(lines: IO[str], last: collections.deque[str]) -> None:
    """Copies standard error, and keeps its last lines."""
    while line := lines.readline(1 << 16):
        sys.stderr.write(line)
        sys.stderr.flush()
        last.append(line)


def _last_words(text: str) -> str:
    """The exception itself where there is a traceback, else the last lines of standard error."""
    kept = text.rsplit("\n", 1)[-1] if '\n  File "' in text else text
    return kept[-_ERROR_CHARACTERS:]


def _fail(base: Path, reason: str, status: int) -> int:
    failure = base / "output" / "failure"
    # The script may have left its own.
    if not failure.exists():
        failure.write_text(reason)
    print(reason, file=sys.stderr)
    return status


def _configuration(base: Path, name: str) -> dict[str, Any]:
    return json.loads((base / "input" / "config" / f"{name}.json").read_text())


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


if __name__ == "__main__":
    sys.exit(main())
