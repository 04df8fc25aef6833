"""Tries of the dates of a step: how often what may pass by itself is tried, and the wait between.

Dagster's own retries would begin the whole step again, and do so for a run that was cancelled, too.
Single calls to S3 or SageMaker are tried again by their clients, in `resources/`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import dagster as dg
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from platform_assets.errors import describe_error, is_transient
from platform_assets.partitions import list_dates

ATTEMPTS = 3
WAIT = wait_exponential(multiplier=5, max=60) + wait_random(0, 5)
_T = TypeVar("_T")
_P = ParamSpec("_P")


def attempt(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | Exception:
    """What a call returns; the exception where it raises one."""
    try:
        return call(*args, **kwargs)
    except Exception as error:  # the caller reports it with its date
        return error


def errors_in(result: object) -> Sequence[Exception]:
    """The errors of a date's result: of itself, or of the assets that it is made of."""
    if isinstance(result, Mapping):
        return [error for value in result.values() for error in errors_in(value)]
    return [result] if isinstance(result, Exception) else []


def retry_dates(
    dates: Sequence[str], make: Callable[[Sequence[str]], Mapping[str, _T]]
) -> dict[str, _T]:
    """Call `make` for all dates, and again for those alone that failed with a transient error.

    Args:
        make: Returns a result for each date that it is given: what was made, the exception in its
            place, or a mapping of such.

    Returns:
        Date → the result of its last attempt.
    """
    results: dict[str, _T] = {}
    failed: dict[str, Exception] = {}

    def call() -> bool:
        latest = make(list(failed) or dates)
        results.update(latest)
        failed.clear()
        failed.update(
            (date, error)
            for date, result in latest.items()
            for error in errors_in(result)
            if is_transient(error)
        )
        return bool(failed)

    def announce(state: RetryCallState) -> None:
        _announce(list_dates(list(failed)), next(iter(failed.values())), state)

    Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=retry_if_result(bool),
        retry_error_callback=lambda _: None,
        before_sleep=announce,
    )(call)
    return results


def retry_call(what: str, call: Callable[[], _T]) -> _T:
    """Call a function, and again where it raises a transient error.

    Args:
        what: Named in the run's log before another attempt.

    Raises:
        Exception: What the last attempt raised.
    """

    def announce(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Exception):
            _announce(what, error, state)

    return Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=retry_if_exception(is_transient),
        before_sleep=announce,
        reraise=True,
    )(call)


def _announce(what: str, error: Exception, state: RetryCallState) -> None:
    dg.get_dagster_logger().warning(
        f"{what} failed for a reason that may pass: tried again in {state.upcoming_sleep:.0f} s. "
        f"{describe_error(error)}"
    )
