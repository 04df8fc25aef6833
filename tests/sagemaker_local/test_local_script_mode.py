"""Script mode: a user's scikit-learn script, as SageMaker's own images run it."""

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xgboost

from sagemaker_local.script_serving import Handlers, UnsupportedTypeError
from tests.sagemaker_local.rig import Server, channel, job, unique
from tests.sagemaker_local.test_local_contract import artifact, log

IMAGE = "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
# Rows of a label and a value from which it can be told.
ROWS = b"0,0.1\n0,0.2\n1,0.8\n1,0.9\n"
SCRIPT = Path(__file__).with_name("sklearn_script.py").read_text()


def archive(**files: str) -> bytes:
    """A tar.gz of sources, as the SDKs upload them; `__` in a name stands for a dot."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def script_job(server: Server, bucket: str, sources: bytes, **parameters: Any) -> dict[str, Any]:
    """Runs a job of these sources to its end."""
    name = unique("script")
    server.s3.put_object(Bucket=bucket, Key="tree/train.csv", Body=ROWS)
    server.s3.put_object(Bucket=bucket, Key=f"{name}/sourcedir.tar.gz", Body=sources)
    own = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{bucket}/{name}/sourcedir.tar.gz",
        "sagemaker_region": "eu-west-1",
    }
    request = job(
        name,
        bucket,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={key: json.dumps(value) for key, value in (own | parameters).items()},
        InputDataConfig=[channel("train", f"s3://{bucket}/tree/")],
    )
    server.sagemaker.create_training_job(**request)
    return server.until(name, "Completed", "Failed")


def test_a_script_gets_its_arguments_and_variables(image_server: Server, store: str) -> None:
    """A value keeps its type: the depth is a number, not a string with quotes."""
    parameters = {"max-depth": 1, "criterion": "entropy", "a": {"b": 1, "c": "d"}}
    described = script_job(image_server, store, archive(train__py=SCRIPT), **parameters)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    name = described["TrainingJobName"]
    assert log(image_server, name) == ["depth=1;"]
    key = f"models/{name}/output/model.tar.gz"
    body = image_server.s3.get_object(Bucket=store, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert sorted(tar.getnames()) == ["model.joblib", "seen.json"]
        file = tar.extractfile("seen.json")
        assert file is not None
        seen: dict[str, str] = json.load(file)
    base = seen["SM_MODEL_DIR"].removesuffix("/model")
    expected = {
        "SM_CHANNELS": '["train"]',
        "SM_CHANNEL_TRAIN": f"{base}/input/data/train",
        "SM_CURRENT_HOST": "algo-1",
        "SM_HOSTS": '["algo-1"]',
        "SM_HPS": '{"a":{"b":1,"c":"d"},"criterion":"entropy","max-depth":1}',
        "SM_HP_A": '{"b":1,"c":"d"}',
        "SM_HP_CRITERION": "entropy",
        "SM_HP_MAX-DEPTH": "1",
        "SM_INPUT_DIR": f"{base}/input",
        "SM_INPUT_CONFIG_DIR": f"{base}/input/config",
        "SM_NUM_GPUS": "0",
        "SM_OUTPUT_DIR": f"{base}/output",
        "SM_OUTPUT_DATA_DIR": f"{base}/output/data",
        "SM_USER_ARGS": '["-a","b=1,c=d","--criterion","entropy","--max-depth","1"]',
        "SM_USER_ENTRY_POINT": "train.py",
        "SM_MODULE_NAME": "train",
        "SM_LOG_LEVEL": "20",
    }
    assert {variable: seen[variable] for variable in expected} == expected
    environment = json.loads(seen["SM_TRAINING_ENV"])
    assert environment["hyperparameters"] == parameters
    assert environment["channel_input_dirs"] == {"train": f"{base}/input/data/train"}
    assert environment["job_name"] == name


def test_the_last_line_of_a_script_that_fails_is_the_reason(
    image_server: Server, store: str
) -> None:
    helper = "def fail():\n    raise RuntimeError('no rain today')\n"
    sources = archive(train__py="import helper\nhelper.fail()\n", helper__py=helper)
    described = script_job(image_server, store, sources)
    assert described["FailureReason"].startswith(
        "AlgorithmError: ExecuteUserScriptError:\nExitCode 1\n"
        'ErrorMessage "RuntimeError: no rain today"\nCommand "'
    )
    assert described["FailureReason"].endswith('train.py", exit code: 1')
    assert "Traceback (most recent call last):" in log(image_server, described["TrainingJobName"])


def test_a_script_cannot_import_modules_of_the_server(image_server: Server, store: str) -> None:
    """Although the server starts it from its own folder."""
    described = script_job(image_server, store, archive(train__py="import kmeans\n"))
    assert "No module named 'kmeans'" in described["FailureReason"]


def test_an_archive_without_the_script_says_so(image_server: Server, store: str) -> None:
    described = script_job(image_server, store, archive(other__py=""))
    assert "there is no script: sagemaker_program has to name a file" in described["FailureReason"]
    assert "not 'train.py'" in described["FailureReason"]


def hostile(kind: bytes, name: str, target: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        tar.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (hostile(tarfile.REGTYPE, "../../train.py"), "would lie outside of the folder"),
        (hostile(tarfile.REGTYPE, "/tmp/train.py"), "would lie outside of the folder"),
        (hostile(tarfile.SYMTYPE, "train.py", "/etc/passwd"), "is neither a file nor a folder"),
        (hostile(tarfile.LNKTYPE, "train.py", "../../x"), "is neither a file nor a folder"),
        (hostile(tarfile.FIFOTYPE, "train.py"), "is neither a file nor a folder"),
        (b"no archive", "it is no tar.gz archive"),
        (archive(train__py=SCRIPT)[:300], "it is no tar.gz archive, or a damaged one"),
    ],
    ids=["parent", "absolute", "link", "hard link", "pipe", "no archive", "cut short"],
)
def test_archives_with_members_outside_of_their_folder_are_refused(
    image_server: Server, store: str, sources: bytes, words: str
) -> None:
    described = script_job(image_server, store, sources)
    assert described["FailureReason"].startswith(f"ClientError: Unable to unpack s3://{store}/")
    assert words in described["FailureReason"]


def test_other_output_of_a_script_is_kept_apart_from_its_model(
    image_server: Server, store: str
) -> None:
    script = (
        "import os, pathlib\n"
        "(pathlib.Path(os.environ['SM_OUTPUT_DATA_DIR']) / 'plot.txt').write_text('a plot')\n"
    )
    described = script_job(image_server, store, archive(train__py=script))
    name = described["TrainingJobName"]
    assert artifact(image_server, store, name, "output") == {"plot.txt": "a plot"}
    assert artifact(image_server, store, name) == {}


def test_a_job_ends_although_its_script_leaves_a_process_running(
    image_server: Server, store: str
) -> None:
    # It inherits the script's standard error.
    script = "import subprocess; subprocess.Popen(['sleep', '600'])"
    described = script_job(image_server, store, archive(train__py=script))
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")


@pytest.fixture(scope="module")
def xgboost_handlers() -> Handlers:
    """Serves a model that says whether the first of two features is above a half."""
    rows = xgboost.DMatrix(np.array([[0, 9], [0.4, 9], [0.6, 9], [1, 9]]), [0, 0, 1, 1])
    parameters = {"eta": 1, "lambda": 0, "nthread": 1, "max_depth": 1}
    booster = xgboost.train(parameters, rows, num_boost_round=3)
    return Handlers(SimpleNamespace(model_fn=lambda _: booster), "", xgboost=True)


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("text/csv", b"0.1,9\n0.9,9\n", [0, 1]),
        ("text/csv; charset=utf-8", b"0.9;\n0.1;9", [1, 0]),
        ("text/csv", b"0.9", [1]),
        ("text/libsvm", b"0 0:0.1 1:9\n0 0:0.9\n", [0, 1]),
        ("text/x-libsvm", b"1 0:0.9 1:9", [1]),
    ],
)
def test_xgboost_reads_csv_and_libsvm_by_itself(
    xgboost_handlers: Handlers, content_type: str, body: bytes, expected: list[float]
) -> None:
    """With empty cells and other delimiters, as SageMaker's image has it."""
    answer, kind = xgboost_handlers.answer(body, content_type, "application/json")
    assert kind == "application/json"
    assert json.loads(answer) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-recordio-protobuf"])
def test_xgboost_refuses_what_it_does_not_read(
    xgboost_handlers: Handlers, content_type: str
) -> None:
    with pytest.raises(UnsupportedTypeError, match=f"Content type {content_type} is not supp"):
        xgboost_handlers.answer(b"[[1, 2]]", content_type, "text/csv")
