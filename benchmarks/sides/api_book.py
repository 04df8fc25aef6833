"""What the app of chapter 7 of Data Pipelines with Apache Airflow does, by Chalice's local server.

Picture to grey, to 28 × 28, to a flat array; the serializer of the SageMaker SDK, version 2; a new
client for each request; and the cluster as the endpoint tells it.
"""

import argparse
import json
import os
from io import BytesIO

import boto3
import numpy as np
from chalice.app import Chalice, Response
from chalice.config import Config
from chalice.local import ChaliceRequestHandler, ThreadedHTTPServer, create_local_server
from PIL import Image

# Installed in the environment that this runs in only.
from sagemaker.amazon.common import (  # pyright: ignore[reportMissingImports]
    RecordSerializer,
)

app = Chalice("number-classifier")


@app.route("/", methods=["POST"], content_types=["image/jpeg"])
def predict() -> Response:
    """The closest cluster."""
    assert app.current_request is not None
    body = bytes(app.current_request.raw_body)  # pyright: ignore[reportArgumentType]
    picture = Image.open(BytesIO(body)).convert("L").resize((28, 28))
    features = np.array(picture, dtype=np.float32).flatten()
    runtime = boto3.Session().client("sagemaker-runtime", region_name="eu-west-1")
    answer = runtime.invoke_endpoint(
        EndpointName=os.environ["PLATFORM_ENDPOINT_NAME"],
        ContentType="application/x-recordio-protobuf",
        Body=RecordSerializer().serialize(features),
    )
    told = json.loads(answer["Body"].read().decode("utf-8"))
    return Response(told, {"Content-Type": "application/json"}, 200)


def _say_nothing(self: ChaliceRequestHandler, format: str, *args: object) -> None:  # noqa: A002
    """In place of a line for each request."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    # As fast as it can be: without waiting for the client's acknowledgements, or printing a line
    # for each request; and without turning 16 clients away at once.
    ChaliceRequestHandler.disable_nagle_algorithm = True
    ChaliceRequestHandler.log_message = _say_nothing
    ThreadedHTTPServer.request_queue_size = 128
    create_local_server(app, Config(), "127.0.0.1", parser.parse_args().port).serve_forever()
