"""The server's front: one port for the control plane, the runtime, CloudWatch, IAM and STS.

Checks the signature, finds the operation, checks the request against the service model, filters the
answer by it, and writes errors as AWS does. What runs an operation is in operations and identity.
"""

import asyncio
import dataclasses
import json
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, cast

from botocore.model import Shape, StructureShape
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sagemaker_local import bodies, cbor, faults, identity, names, operations, service_model
from sagemaker_local.alarms import Alarms
from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import Config
from sagemaker_local.context import Context
from sagemaker_local.endpoints import Endpoints
from sagemaker_local.faults import FaultPlan, FaultPlanError
from sagemaker_local.fleet import INVOCATION_BYTES, Invocation
from sagemaker_local.formats.browser_guard import BrowserGuard
from sagemaker_local.jobs import JobRunner
from sagemaker_local.logs import Logs
from sagemaker_local.metrics import Metrics
from sagemaker_local.s3 import Storage
from sagemaker_local.signing import SignedRequest, Verifier
from sagemaker_local.store import Store

_log = logging.getLogger(__name__)
_JSON = "application/x-amz-json-1.1"
_FORM = "application/x-www-form-urlencoded"
_XML = "text/xml"
_REQUEST_ID = "x-amzn-RequestId"
# What InvokeEndpoint is signed for.
_RUNTIME = "sagemaker"
_SIGNING_NAMES = frozenset({*operations.SIGNING_NAMES.values(), *identity.SERVICES})
_CLOUDWATCH = f"/service/{service_model.CLOUDWATCH_PREFIX}/operation/{{operation}}"


class Server:
    """A running server: its parts, and the handlers of its routes but for `/healthz`."""

    def __init__(self, config: Config) -> None:
        """Opens the state; nothing runs yet.

        Raises:
            FaultPlanError: The plan of faults cannot be read.
            ConfigError: The folder of the state cannot be used, or another server uses it.
        """
        plan = FaultPlan(config.faults)
        store = Store(config.data_dir)
        storage, logs = Storage(config), Logs(store, config)
        metrics = Metrics(config.wait_scale)
        self._alarms = alarms = Alarms(config, store, metrics)
        self._config = config
        self._store = store
        self._jobs = JobRunner(config, store, storage, logs)
        self._endpoints = Endpoints(config, store, storage, logs, metrics, alarms)
        self._context = Context(
            config=config,
            store=store,
            storage=storage,
            logs=logs,
            metrics=metrics,
            alarms=alarms,
            faults=plan,
            start_job=self._jobs.start,
            stop_job=self._jobs.stop,
            wake_endpoint=self._endpoints.wake,
        )
        self._verifier = Verifier(config.access_key, config.secret_key, config.region)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Continues from the state that the last process left; ends every child at the end."""
        self._jobs.recover()
        self._endpoints.open()
        # Loaded before the first request rather than in it.
        service_model.service(service_model.CONTROL_PREFIX)
        judging = asyncio.create_task(self._alarms.run())
        try:
            yield
        finally:
            judging.cancel()
            await self._endpoints.close()
            await asyncio.to_thread(self._jobs.close)
            self._store.close()

    async def control(self, request: Request) -> Response:
        """`POST /`: the control plane or CloudWatch in JSON, or a query of IAM or STS."""
        if _is_query(request):
            return await self._query(request)
        prefix, _, name = request.headers.get("x-amz-target", "").partition(".")
        _, answer = await self._run(request, prefix, name, bodies.read_json)
        return Response(json.dumps(answer), headers=_request_id(), media_type=_JSON)

    async def cloudwatch(self, request: Request) -> Response:
        """`POST /service/…/operation/{operation}`: CloudWatch in CBOR."""
        name = request.path_params["operation"]
        shape, answer = await self._run(request, service_model.CLOUDWATCH_PREFIX, name, cbor.read)
        headers = cbor.PROTOCOL | _request_id()
        return Response(cbor.dumps(shape, answer), headers=headers, media_type=cbor.MEDIA_TYPE)

    async def _query(self, request: Request) -> Response:
        body = await bodies.control(request)
        service = self._verify(request, body, _SIGNING_NAMES)
        if service not in identity.SERVICES:
            raise AwsError(
                "SignatureDoesNotMatch",
                "Credential should be scoped to 'iam' or 'sts': other services take no forms here, "
                "but JSON, and CloudWatch CBOR.",
                403,
            )
        headers = _request_id()
        answer = await asyncio.to_thread(
            identity.answer, self._config, service, body, headers[_REQUEST_ID]
        )
        return Response(answer, headers=headers, media_type=_XML)

    async def _run(
        self, request: Request, prefix: str, name: str, read: Callable[[bytes], Any]
    ) -> tuple[Shape | None, Any]:
        """Runs an operation; returns the shape of its answer, and the answer."""
        body = await bodies.control(request)
        expected = operations.SIGNING_NAMES.get(prefix)
        self._verify(request, body, {expected} if expected else _SIGNING_NAMES)
        run = operations.TARGETS.get(prefix, {}).get(name)
        if run is None:
            raise AwsError(
                "UnknownOperationException",
                f"The operation {prefix}.{name} is not known here.",
                404,
            )
        request_faults = self._faults(request, name)
        document = read(bodies.unpacked(request, body))
        operation = service_model.operation(prefix, name)
        shape = cast("StructureShape | None", operation.input_shape)
        checked = service_model.check(shape, document)
        context = dataclasses.replace(self._context, request_faults=request_faults)
        answer = await asyncio.to_thread(run, context, checked)
        result = service_model.filter_output(operation.output_shape, answer) or {}
        return operation.output_shape, result

    async def invoke(self, request: Request) -> Response:
        """`POST /endpoints/{name}/invocations`."""
        name = request.path_params["name"]
        body = await bodies.whole(request, INVOCATION_BYTES)
        if body is None:
            raise AwsError(
                "ValidationError",
                "1 validation error detected: Value at 'body' failed to satisfy constraint: "
                f"Member must have length less than or equal to {INVOCATION_BYTES}",
            )
        self._verify(request, body, {_RUNTIME})
        self._faults(request, "InvokeEndpoint")
        headers = request.headers
        invocation = Invocation(
            body,
            headers.get("content-type", "application/octet-stream"),
            headers.get("accept", ""),
            headers.get("x-amzn-sagemaker-custom-attributes", ""),
            headers.get("x-amzn-sagemaker-inference-id", ""),
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

    def _verify(self, request: Request, body: bytes, services: Collection[str]) -> str:
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
            ),
            services,
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
    """The ASGI application.

    Raises:
        FaultPlanError: The plan of faults cannot be read.
        ConfigError: The folder of the state cannot be used, or another server uses it.
    """
    server = Server(config)
    return Starlette(
        middleware=[Middleware(BrowserGuard)],
        routes=[
            Route("/", server.control, methods=["POST"]),
            Route(_CLOUDWATCH, server.cloudwatch, methods=["POST"]),
            Route("/endpoints/{name}/invocations", server.invoke, methods=["POST"]),
            Route("/healthz", _health, methods=["GET"]),
        ],
        exception_handlers={AwsError: _refuse, ClientDisconnect: _drop, Exception: _refuse},
        lifespan=server.lifespan,
    )


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _drop(_: Request, __: Exception) -> Response:
    """For a client that hung up before its request was whole: an answer that nobody gets."""
    return Response(status_code=400)


async def _refuse(request: Request, error: Exception) -> Response:
    """An error in the form of the protocol that the request speaks."""
    target = request.headers.get("x-amz-target", "")
    headers = _request_id()
    if not isinstance(error, AwsError):
        # Its traceback is logged by uvicorn, to which Starlette passes it on.
        _log.error("request %s %s: %r", request.url.path, target, error)
        error = AwsError("InternalFailure", "We encountered an internal error.", 500)
        # uvicorn ends the connection then; the client has to know before its next request.
        headers["connection"] = "close"
    headers["x-amzn-errortype"] = error.code
    media_type = _JSON
    if request.url.path.startswith("/service/"):
        headers |= cbor.error_headers(error)
        body, media_type = cbor.error_body(error), cbor.MEDIA_TYPE
    elif request.url.path != "/":
        body, media_type = _as_json({"Message": str(error)}, error), "application/json"
    elif _is_query(request):
        body, media_type = identity.error_body(error, headers[_REQUEST_ID]), _XML
    else:
        if target.startswith(service_model.CLOUDWATCH_PREFIX):
            headers |= cbor.query_error(error)
        body = _as_json({"__type": error.code, "message": str(error)}, error)
    return Response(body, error.status, headers, media_type)


def _as_json(body: dict[str, Any], error: AwsError) -> bytes:
    return json.dumps(body | error.extra).encode()


def _is_query(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith(_FORM)


def _request_id() -> dict[str, str]:
    return {_REQUEST_ID: str(uuid.uuid4())}
