"""The Chalice app: its routes. Deployed as a Lambda, or served by `api.local`."""

from __future__ import annotations

import functools
import logging
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import Chalice, Request, Response

from api import page, reference, requests
from api.errors import NotInServiceError
from api.openapi import document
from api.recognition import Answer, Recogniser
from api.responses import answering, json_answer, page_answer
from api.settings import ApiSettings
from formats.digit_confidence import DIGITS
from formats.digit_pictures import PictureError

_LOG = logging.getLogger(__name__)


@functools.cache
def settings() -> ApiSettings:
    """Read from the environment when first asked for."""
    return ApiSettings()


@functools.cache
def recogniser() -> Recogniser:
    """One for the process: connections and centroids are shared by its threads."""
    return Recogniser(settings())


def create_app() -> Chalice:
    """A Chalice app. It holds the request that it works on: a server needs one for each thread."""
    app = Chalice("digits", configure_logs=False)
    app.api.binary_types.extend(set(requests.PICTURE_TYPES) - set(app.api.binary_types))

    def request() -> Request:
        assert app.current_request is not None  # noqa: S101 - Chalice sets it before a view runs
        return app.current_request

    # Chalice would refuse a GET that names a content type, and a POST with another one without
    # saying which are read; so it knows no content types, and they are checked here.
    @app.route("/", methods=["GET"], content_types=[])
    @answering
    def get_page() -> Response:
        return page_answer(page.html())

    @app.route("/", methods=["POST"], content_types=[])
    @answering
    def post_picture() -> Response:
        requests.require_key(request(), settings())
        picture = requests.picture_of(request())
        answer = recogniser().recognise(picture)
        detailed = (request().query_params or {}).get("details") == "true"
        return json_answer(answer.details() if detailed else answer.summary())

    @app.route("/batch", methods=["POST"], content_types=[])
    @answering
    def post_batch() -> Response:
        requests.require_key(request(), settings())
        requests.require_type(request(), ["application/json"])
        pictures = requests.batch_of(requests.body_of(request(), requests.MAX_BATCH_BYTES))
        answers = recogniser().recognise_all(pictures)
        return json_answer({"predictions": [_prediction(answer) for answer in answers]})

    @app.route("/model", methods=["GET"], content_types=[])
    @answering
    def get_model() -> Response:
        requests.require_key(request(), settings())
        return json_answer(_model())

    @app.route("/healthz", methods=["GET"], content_types=[])
    @answering
    def get_health() -> Response:
        # "ok" says that this process answers; the endpoint has a status of its own.
        endpoint = {"name": recogniser().endpoint.name, "status": recogniser().models.status()}
        return json_answer({"status": "ok", "endpoint": endpoint})

    @app.route("/docs", methods=["GET"], content_types=[])
    @answering
    def get_reference() -> Response:
        return page_answer(reference.html())

    @app.route("/openapi.json", methods=["GET"], content_types=[])
    @answering
    def get_openapi() -> Response:
        return json_answer(document())

    return app


def _prediction(answer: Answer | PictureError) -> dict[str, Any]:
    return {"error": str(answer)} if isinstance(answer, PictureError) else answer.summary()


def _model() -> dict[str, Any]:
    models, name = recogniser().models, recogniser().endpoint.name
    try:
        service = models.service()
        model = models.model_of(service.config)
    except ClientError as error:
        _LOG.warning("the model behind %s cannot be described: %s", name, error)
        raise NotInServiceError(
            f"The endpoint {name} is not deployed, or what it serves may not be read."
        ) from error
    except (BotoCoreError, ValueError, LookupError) as error:
        _LOG.warning("the model behind %s cannot be read: %s", name, error)
        raise NotInServiceError(f"What the endpoint {name} serves cannot be read now.") from error
    return {
        "endpoint": name,
        "status": service.status,
        "version": service.config,
        "model": model.name,
        "deployed_at": service.changed.isoformat(),
        "accuracy": model.evaluation.get("accuracy"),
        "test_digits": model.evaluation.get("test_digits"),
        "centroids": len(model.centroids),
        "centroids_per_digit": len(model.centroids) // DIGITS,
    }


app = create_app()
