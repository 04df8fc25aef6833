"""The server's front: one port for the control plane, the runtime, CloudWatch Logs, IAM and STS.

Checks the signature, finds the operation, checks the request against the service model, filters the
answer by it, and writes errors as AWS does. What the operations do is in training, processing,
transform, hosting, tags, logs and identity.
"""

import asyncio
import dataclasses
import json
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import unquote

from botocore.model import StructureShape
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sagemaker_local import (
    faults,
    hosting,
    identity,
    job_kinds,
    names,
    processing,
    service_model,
    tags,
    training,
    transform,
)
from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import Config
from sagemaker_local.context import Context, Operation
from sagemaker_local.endpoints import Endpoints
from sagemaker_local.faults import FaultPlan, FaultPlanError
from sagemaker_local.fleet import Invocation
from sagemaker_local.formats.browser_guard import BrowserGuard
from sagemaker_local.jobs import JobRunner
from sagemaker_local.logs import Logs
from sagemaker_local.s3 import Storage
from sagemaker_local.signing import SignedRequest, Verifier
from sagemaker_local.store import Store

_log = logging.getLogger(__name__)
_BODY_BYTES = 6_291_456
_CONTROL_BYTES = 1024 * 1024
_JSON = "application/x-amz-json-1.1"
_FORM = "application/x-www-form-urlencoded"

_CONTROL: dict[str, Operation] = {
    **job_kinds.operations(training.KIND, training.create, training.listed),
    **job_kinds.operations(processing.KIND, processing.create, processing.listed),
    **job_kinds.operations(
        transform.KIND,
        transform.create,
        hosting.listing(names.TRANSFORM_JOB, "TransformJobSummaries"),
    ),
    "CreateModel": hosting.create_model,
    "DescribeModel": hosting.describing(names.MODEL, "ModelName"),
    "ListModels": hosting.listing(names.MODEL, "Models"),
    "DeleteModel": hosting.deleting(names.MODEL, "ModelName"),
    "CreateEndpointConfig": hosting.create_config,
    "DescribeEndpointConfig": hosting.describing(names.ENDPOINT_CONFIG, "EndpointConfigName"),
    "ListEndpointConfigs": hosting.listing(names.ENDPOINT_CONFIG, "EndpointConfigs"),
    "DeleteEndpointConfig": hosting.deleting(names.ENDPOINT_CONFIG, "EndpointConfigName"),
    "CreateEndpoint": hosting.create_endpoint,
    "DescribeEndpoint": hosting.describe_endpoint,
    "ListEndpoints": hosting.listing(names.ENDPOINT, "Endpoints"),
    "UpdateEndpoint": hosting.update_endpoint,
    "UpdateEndpointWeightsAndCapacities": hosting.update_weights,
    "DeleteEndpoint": hosting.delete_endpoint,
    "AddTags": tags.add,
    "ListTags": tags.listed,
    "DeleteTags": tags.delete,
}
_LOGS: dict[str, Operation] = {
    "DescribeLogGroups": lambda context, request: context.logs.describe_log_groups(request),
    "DescribeLogStreams": lambda context, request: context.logs.describe_log_streams(request),
    "GetLogEvents": lambda context, request: context.logs.get_log_events(request),
    "FilterLogEvents": lambda context, request: context.logs.filter_log_events(request),
}
_TARGETS = {service_model.CONTROL_PREFIX: _CONTROL, service_model.LOGS_PREFIX: _LOGS}
_SIGNING_NAMES = {service_model.CONTROL_PREFIX: "sagemaker", service_model.LOGS_PREFIX: "logs"}


class Server:
    """A running server: its parts, and the handlers of its two routes."""

    def __init__(self, config: Config) -> None:
        """Opens the state; nothing runs yet.

        Raises:
            FaultPlanError: The plan of faults cannot be read.
        """
        plan = FaultPlan(config.faults)
        config.data_dir.mkdir(parents=True, exist_ok=True)
        store = Store(config.data_dir / "state.sqlite")
        storage, logs = Storage(config), Logs(store, config)
        self._config = config
        self._store = store
        self._jobs = JobRunner(config, store, storage, logs)
        self._endpoints = Endpoints(config, store, storage, logs)
        self._context = Context(
            config=config,
            store=store,
            storage=storage,
            logs=logs,
            faults=plan,
            start_job=self._jobs.start,
            stop_job=self._jobs.stop,
            wake_endpoint=self._endpoints.wake,
        )
        self._verifier = Verifier(
            config.access_key,
            config.secret_key,
            config.region,
            ("sagemaker", "logs", *identity.SERVICES),
        )

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Continues from the state that the last process left; ends every child at the end."""
        self._jobs.recover()
        self._endpoints.open()
        # Loaded before the first request rather than in it.
        service_model.service(service_model.CONTROL_PREFIX)
        try:
            yield
        finally:
            await self._endpoints.close()
            await asyncio.to_thread(self._jobs.close)
            self._store.close()

    async def control(self, request: Request) -> Response:
        """`POST /`: the control plane, CloudWatch Logs, or a query of IAM or STS."""
        if request.headers.get("content-type", "").startswith(_FORM):
            return await self._query(request)
        return await _answered(
            self._control,
            request,
            _JSON,
            lambda error: _as_json({"__type": error.code, "message": str(error)}, error),
        )

    async def invoke(self, request: Request) -> Response:
        """`POST /endpoints/{name}/invocations`."""
        return await _answered(
            self._invoke,
            request,
            "application/json",
            lambda error: _as_json({"Message": str(error)}, error),
        )

    async def _query(self, request: Request) -> Response:
        return await _answered(
            self._identity,
            request,
            "text/xml",
            lambda error: identity.error_body(error, str(uuid.uuid4())),
        )

    async def _identity(self, request: Request) -> Response:
        body = await _control_body(request)
        service = self._verify(request, body)
        if service not in identity.SERVICES:
            raise AwsError(
                "SignatureDoesNotMatch", "Credential should be scoped to 'iam' or 'sts'.", 403
            )
        request_id = _request_id()
        answer = await asyncio.to_thread(
            identity.answer, self._config, service, body, request_id["x-amzn-RequestId"]
        )
        return Response(answer, media_type="text/xml", headers=request_id)

    async def _control(self, request: Request) -> Response:
        body = await _control_body(request)
        service = self._verify(request, body)
        prefix, _, name = request.headers.get("x-amz-target", "").partition(".")
        run = _TARGETS.get(prefix, {}).get(name)
        if run is None:
            raise AwsError(
                "UnknownOperationException",
                f"The operation {prefix}.{name} is not known here.",
                404,
            )
        if service != _SIGNING_NAMES[prefix]:
            raise AwsError(
                "InvalidSignatureException",
                f"Credential should be scoped to correct service: '{_SIGNING_NAMES[prefix]}'.",
                403,
            )
        request_faults = self._faults(request, name)
        try:
            document = json.loads(body or b"{}")
        except ValueError:
            raise AwsError("SerializationException", "The body is not JSON.") from None
        operation = service_model.operation(prefix, name)
        shape = cast("StructureShape | None", operation.input_shape)
        checked = service_model.check(shape, document)
        context = dataclasses.replace(self._context, request_faults=request_faults)
        answer = await asyncio.to_thread(run, context, checked)
        result = service_model.filter_output(operation.output_shape, answer) or {}
        return Response(json.dumps(result), media_type=_JSON, headers=_request_id())

    async def _invoke(self, request: Request) -> Response:
        name = unquote(request.path_params["name"])
        body = await _body(request, _BODY_BYTES)
        if body is None:
            raise AwsError(
                "ValidationError",
                "1 validation error detected: Value at 'body' failed to satisfy constraint: "
                f"Member must have length less than or equal to {_BODY_BYTES}",
            )
        self._verify(request, body)
        self._faults(request, "InvokeEndpoint")
        headers = request.headers
        invocation = Invocation(
            body,
            headers.get("content-type", "application/octet-stream"),
            headers.get("accept", ""),
            headers.get("x-amzn-sagemaker-custom-attributes", ""),
        )
        variant, answer = await self._endpoints.invoke(
            name, headers.get("x-amzn-sagemaker-target-variant"), invocation
        )
        if answer.status != 200:
            message = answer.body.decode(errors="replace")
            raise self._model_error(name, variant, answer.status, message)
        more = {"x-Amzn-Invoked-Production-Variant": variant, **_request_id()}
        if answer.custom_attributes:
            more["X-Amzn-SageMaker-Custom-Attributes"] = answer.custom_attributes
        return Response(answer.body, headers={"content-type": answer.content_type, **more})

    def _model_error(self, name: str, variant: str, status: int, message: str) -> AwsError:
        region, group = self._config.region, names.endpoint_logs(name)
        side = "client" if 400 <= status < 500 else "server"
        return AwsError(
            "ModelError",
            f'Received {side} error ({status}) from primary with message "{message}". See '
            f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
            f"#logEventViewer:group={group} in account {self._config.account} for more "
            "information.",
            424,
            {
                "OriginalStatusCode": status,
                "OriginalMessage": message,
                "LogStreamArn": names.log_stream_arn(self._config, group, variant),
            },
        )

    def _verify(self, request: Request, body: bytes) -> str:
        scope = request.scope
        joined: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            joined[name] = f"{joined[name]},{value}" if name in joined else value
        return self._verifier.verify(
            SignedRequest(
                method=scope["method"],
                path=scope["raw_path"].decode("latin-1"),
                query=scope["query_string"].decode("latin-1"),
                headers=joined,
                body=body,
            )
        )

    def _faults(self, request: Request, operation: str) -> FaultPlan:
        """Raises the fault that is due, the server's or the request's own; returns the latter."""
        self._context.faults.refuse(operation)
        try:
            request_faults = FaultPlan(request.headers.get(faults.HEADER, ""))
        except FaultPlanError as error:
            raise AwsError("ValidationException", str(error)) from error
        request_faults.refuse(operation)
        return request_faults


def build(config: Config) -> Starlette:
    """The ASGI application."""
    server = Server(config)
    return Starlette(
        middleware=[Middleware(BrowserGuard)],
        routes=[
            Route("/", server.control, methods=["POST"]),
            Route("/endpoints/{name}/invocations", server.invoke, methods=["POST"]),
            Route("/healthz", _health, methods=["GET"]),
        ],
        lifespan=server.lifespan,
    )


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _control_body(request: Request) -> bytes:
    body = await _body(request, _CONTROL_BYTES)
    if body is None:
        raise AwsError("RequestEntityTooLargeException", "The request is too large.", 413)
    return body


async def _body(request: Request, limit: int) -> bytes | None:
    """The whole body, or None if it is longer than the limit."""
    if int(request.headers.get("content-length", "0")) > limit:
        # Read and dropped: a client that still sends would see a broken connection, not the answer.
        async for _ in request.stream():
            pass
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    return b"".join(chunks) if size <= limit else None


def _request_id() -> dict[str, str]:
    return {"x-amzn-RequestId": str(uuid.uuid4())}


async def _answered(
    handle: Callable[[Request], Awaitable[Response]],
    request: Request,
    media_type: str,
    body: Callable[[AwsError], bytes],
) -> Response:
    """The answer to a request, or the error that refuses it, with the body that clients expect."""
    try:
        return await handle(request)
    except AwsError as refusal:
        error = refusal
    except ClientDisconnect:
        raise
    except Exception:
        _log.exception("request %s %s", request.url.path, request.headers.get("x-amz-target", ""))
        error = AwsError("InternalFailure", "We encountered an internal error.", 500)
    headers = {"x-amzn-errortype": error.code, **_request_id()}
    return Response(body(error), error.status, headers, media_type)


def _as_json(body: dict[str, Any], error: AwsError) -> bytes:
    return json.dumps(body | error.extra).encode()
