"""The hyperparameters of SageMaker's k-means: their names, ranges and defaults.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/k-means-api-config.html
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

_AUTO_FACTOR = 10
_METRICS = ("msd", "ssd")
_INIT_METHODS = ("random", "kmeans++")
# int() and float() alone also take 1_000 and spaces, which AWS refuses.
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class HyperParameterError(ValueError):
    """A hyperparameter is missing, unknown or out of range; the message is the algorithm's own."""


@dataclass(frozen=True)
class KMeansParameters:
    """Checked hyperparameters.

    Attributes:
        local_lloyd_num_trials: Trials of the local search; None for `auto`.
    """

    k: int
    feature_dim: int
    mini_batch_size: int = 5000
    epochs: int = 1
    init_method: str = "random"
    extra_center_factor: int = _AUTO_FACTOR
    half_life_time_size: int = 0
    local_lloyd_max_iter: int = 300
    local_lloyd_tol: float = 0.0001
    local_lloyd_num_trials: int | None = None
    local_lloyd_init_method: str = "kmeans++"
    eval_metrics: tuple[str, ...] = ("msd",)
    force_dense: bool = True


def parse(given: Mapping[str, str]) -> KMeansParameters:
    """Checks hyperparameters as CreateTrainingJob takes them: all strings.

    Keys that begin with `_` belong to the container and are passed over.

    Raises:
        HyperParameterError: One is missing, unknown or out of range.
    """
    known = {name: value for name, value in given.items() if not name.startswith("_")}
    unknown = sorted(set(known) - set(KMeansParameters.__dataclass_fields__))
    if unknown:
        were = "was" if len(unknown) == 1 else "were"
        raise HyperParameterError(
            "Additional hyperparameters are not allowed "
            f"({', '.join(repr(name) for name in unknown)} {were} unexpected)"
        )
    for name in ("k", "feature_dim"):
        if name not in known:
            raise HyperParameterError(f"'{name}' is a required property")
    defaults = KMeansParameters
    return KMeansParameters(
        k=_integer(known, "k", 1),
        feature_dim=_integer(known, "feature_dim", 1),
        mini_batch_size=_integer(known, "mini_batch_size", 1, defaults.mini_batch_size),
        epochs=_integer(known, "epochs", 1, defaults.epochs),
        init_method=_choice(known, "init_method", _INIT_METHODS, defaults.init_method),
        extra_center_factor=_auto(known, "extra_center_factor") or _AUTO_FACTOR,
        half_life_time_size=_integer(known, "half_life_time_size", 0, defaults.half_life_time_size),
        local_lloyd_max_iter=_integer(
            known, "local_lloyd_max_iter", 1, defaults.local_lloyd_max_iter
        ),
        local_lloyd_tol=_fraction(known, "local_lloyd_tol", defaults.local_lloyd_tol),
        local_lloyd_num_trials=_auto(known, "local_lloyd_num_trials"),
        local_lloyd_init_method=_choice(
            known, "local_lloyd_init_method", _INIT_METHODS, defaults.local_lloyd_init_method
        ),
        eval_metrics=_metrics(known.get("eval_metrics")),
        force_dense=_boolean(known, "force_dense"),
    )


def _integer(given: Mapping[str, str], name: str, low: int, default: int = 0) -> int:
    text = given.get(name, str(default))
    if not _INTEGER.fullmatch(text):
        raise HyperParameterError(f"'{text}' is not of type 'integer' ({name})")
    value = int(text)
    if value < low:
        raise HyperParameterError(f"{value} is less than the minimum of {low} ({name})")
    return value


def _auto(given: Mapping[str, str], name: str) -> int | None:
    return None if given.get(name, "auto") == "auto" else _integer(given, name, 1)


def _fraction(given: Mapping[str, str], name: str, default: float) -> float:
    text = given.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise HyperParameterError(f"'{text}' is not of type 'number' ({name})")
    if not 0 <= float(text) <= 1:
        raise HyperParameterError(f"{text} is not between 0 and 1 ({name})")
    return float(text)


def _choice(given: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = given.get(name, default)
    if value not in allowed:
        raise HyperParameterError(f"'{value}' is not one of {list(allowed)} ({name})")
    return value


def _boolean(given: Mapping[str, str], name: str) -> bool:
    lowered = {name: given.get(name, "true").lower()}
    return _choice(lowered, name, ("true", "false"), "true") == "true"


def _metrics(text: str | None) -> tuple[str, ...]:
    if text is None:
        return KMeansParameters.eval_metrics
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, list) or not value or any(item not in _METRICS for item in value):
        raise HyperParameterError(f"{text} is not a list of 'msd' and 'ssd' (eval_metrics)")
    return tuple(dict.fromkeys(value))
