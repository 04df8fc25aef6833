"""`python -m numbercruncher.spark [--pipes-in-s3]`: the driver of an application of Spark.

A child process of Dagster's run, which reports by its output; or on EMR, which reports by objects
in S3. Exits as `python -m numbercruncher` does.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import boto3
from dagster_pipes import (
    PipesContext,
    PipesS3ContextLoader,
    PipesS3MessageWriter,
    open_dagster_pipes,
)

from numbercruncher.__main__ import main
from numbercruncher.spark.cluster import Reading, find_variables, open_session
from numbercruncher.spark.engine import SparkEngine
from numbercruncher.spark.tasks import Places, Step


def run() -> int:
    """Crunches what the Pipes context asks for, on Spark; returns the exit code."""
    pipes = _open_pipes()
    extras: Mapping[str, Any] = pipes.extras["spark"]
    with ExitStack() as stack:
        read = partial(_read, stack, extras)
        return main(pipes, partial(SparkEngine, scratch=extras["scratch"], read=read))


def _open_pipes() -> PipesContext:
    if "--pipes-in-s3" not in sys.argv:
        return open_dagster_pipes()
    client = boto3.client("s3")
    return open_dagster_pipes(
        context_loader=PipesS3ContextLoader(client=client),
        message_writer=PipesS3MessageWriter(client=client),
    )


def _read(
    stack: ExitStack, extras: Mapping[str, Any], places: Places, steps: list[Step]
) -> Reading:
    """Starts Spark, which is not started where there is nothing to read."""
    opened = open_session(extras["name"], extras["settings"], extras["code"])
    session = stack.enter_context(opened)
    variables = find_variables(session, forward_credentials=extras["forward_credentials"])
    return Reading(session, replace(places, variables=variables), steps)


if __name__ == "__main__":
    sys.exit(run())
