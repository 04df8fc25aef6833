"""The OpenAPI document: what each route takes and every status it can answer with."""

from __future__ import annotations

import functools
from typing import Any

from api.errors import (
    ApiError,
    BadEndpointError,
    BadRequestError,
    EndpointTimeoutError,
    NotInServiceError,
    OverloadedError,
    TooLargeError,
    UnauthorizedError,
    UnreadableError,
)
from api.requests import FORM, MAX_BATCH, PICTURE_TYPES

_ENDPOINT_FAILURES: list[type[ApiError]] = [
    UnauthorizedError,
    OverloadedError,
    BadEndpointError,
    NotInServiceError,
    EndpointTimeoutError,
]
_BODY_FAILURES: list[type[ApiError]] = [BadRequestError, TooLargeError, UnreadableError]


@functools.cache
def document() -> dict[str, Any]:
    """The document, version 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Digits",
            "version": "1",
            "description": "Send a picture of a handwritten digit and get the digit.",
        },
        # Relative to this document: a deployed API stands under its stage.
        "servers": [{"url": "."}],
        "security": [{}, {"key": []}],
        "paths": {
            "/": {"get": _page("page", "The page"), "post": _picture()},
            "/batch": {"post": _batch()},
            "/model": {"get": _model()},
            "/healthz": {"get": _health()},
            "/docs": {"get": _page("reference", "This document as a page")},
            "/openapi.json": {"get": _self()},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
    }


def _page(name: str, summary: str) -> dict[str, Any]:
    page = {"text/html": {"schema": {"type": "string"}}}
    return _operation(name, summary, {"description": "The page.", "content": page})


def _picture() -> dict[str, Any]:
    details = {
        "name": "details",
        "in": "query",
        "description": "Also tell each digit's likelihood, what the model saw and what is nearest.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    }
    body: dict[str, Any] = {media_type: {"schema": {}} for media_type in PICTURE_TYPES}
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    body[FORM] = {"schema": {"type": "object", "properties": {"file": file}, "required": ["file"]}}
    return {
        **_operation(
            "recognise",
            "The digit in one picture",
            _json("The digit.", "DetailedPrediction"),
            [*_BODY_FAILURES, *_ENDPOINT_FAILURES],
            media_type=True,
        ),
        "parameters": [details],
        "requestBody": {"required": True, "content": body},
    }


def _batch() -> dict[str, Any]:
    return {
        **_operation(
            "recogniseAll",
            f"The digits in up to {MAX_BATCH:,} pictures",
            _json("A prediction or an error for each picture, in their order.", "Predictions"),
            [*_BODY_FAILURES, *_ENDPOINT_FAILURES],
            media_type=True,
        ),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _reference("Batch")}},
        },
    }


def _model() -> dict[str, Any]:
    return _operation(
        "model",
        "Which model is live",
        _json("The live model.", "Model"),
        [UnauthorizedError, OverloadedError, NotInServiceError],
    )


def _health() -> dict[str, Any]:
    answer = _json("The API is up; the body tells whether the endpoint is.", "Health")
    return _operation("health", "Whether the API is up", answer)


def _self() -> dict[str, Any]:
    document = {"application/json": {"schema": {"type": "object"}}}
    answer = {"description": "This document.", "content": document}
    return _operation("openapi", "This document", answer)


def _operation(
    name: str,
    summary: str,
    answer: dict[str, Any],
    failures: list[type[ApiError]] | None = None,
    *,
    media_type: bool = False,
) -> dict[str, Any]:
    """An operation with its failures; every route can be turned away when there is too much."""
    responses = {"200": answer}
    for failure in failures or [OverloadedError]:
        responses[str(failure.status)] = _failure(failure)
    if media_type:
        responses["415"] = _json(
            "The body is of a type that is not read here; the message names those that are.",
            "Failure",
        )
    responses["500"] = _failure(ApiError)
    return {"operationId": name, "summary": summary, "responses": dict(sorted(responses.items()))}


def _failure(failure: type[ApiError]) -> dict[str, Any]:
    answer = _json((failure.__doc__ or "A failure.").splitlines()[0], "Failure")
    if failure is ApiError:
        answer["description"] = "Something went wrong that nobody foresaw."
    if failure.retry_after is not None:
        answer["headers"] = {
            "Retry-After": {
                "description": "Seconds after which to try again.",
                "schema": {"type": "string", "pattern": "^[0-9]+$"},
            }
        }
    return answer


def _json(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": _reference(schema)}},
    }


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _schemas() -> dict[str, Any]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    picture = {
        "type": ["string", "null"],
        "contentEncoding": "base64",
        "description": "28 × 28 bytes, row by row, 255 for full ink.",
    }
    prediction = {
        "digit": {"type": "integer", "minimum": 0, "maximum": 9},
        "confidence": {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": "How sure the answer is: the digit's likelihood by the distances of all "
            "digits' centroids, low for what is far from all of them. Null where the model that "
            "answered is not to be had.",
        },
        "cluster": {
            "type": "integer",
            "minimum": 0,
            "description": "The closest cluster; its last decimal place is the digit.",
        },
        "distance": {"type": "number", "minimum": 0},
    }
    detailed = {
        **prediction,
        "likelihoods": {
            "type": ["array", "null"],
            "items": share,
            "minItems": 10,
            "maxItems": 10,
            "description": "Of each digit from 0 to 9; what is missing to 1 is that of no digit.",
        },
        "seen": picture,
        "centroid": picture,
    }
    text, number = {"type": "string"}, {"type": "integer"}
    return {
        "Prediction": _object(prediction),
        "DetailedPrediction": _object(detailed, list(prediction)),
        "NoPrediction": _object({"error": text}),
        "Predictions": _object(
            {
                "predictions": {
                    "type": "array",
                    "items": {"oneOf": [_reference("Prediction"), _reference("NoPrediction")]},
                }
            }
        ),
        "Batch": {
            **_object({"images": {"type": "array", "items": text, "maxItems": MAX_BATCH}}),
            "additionalProperties": True,
        },
        "Model": _object(
            {
                "endpoint": text,
                "status": text,
                "version": text,
                "model": text,
                "deployed_at": {"type": "string", "format": "date-time"},
                "accuracy": {**share, "type": ["number", "null"]},
                "test_digits": {"type": ["integer", "null"]},
                "centroids": number,
                "centroids_per_digit": number,
            }
        ),
        "Health": _object(
            {"status": {"const": "ok"}, "endpoint": _object({"name": text, "status": text})}
        ),
        "Failure": _object({"Code": text, "Message": text}),
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required or list(properties),
        "additionalProperties": False,
    }
