"""The gate of `SageMakerModel`: which value of its training job's metrics a model has to reach."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from platform_assets.errors import PlatformError


class MetricMissingError(PlatformError):
    """A training job did not measure what its gate asks for."""


class Gate(BaseModel):
    """What a model has to reach to go live."""

    model_config = ConfigDict(extra="forbid")

    metric: str = Field(
        description="Of the training job, as SageMaker names it.", examples=["test:msd"]
    )
    at_least: float | None = Field(default=None, description="The least value that goes live.")
    at_most: float | None = Field(default=None, description="The largest value that goes live.")
    max_drop: float | None = Field(
        default=None, ge=0, description="By how much it may be worse than the live model's."
    )

    @model_validator(mode="after")
    def _has_one_limit(self) -> "Gate":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                "a gate has one limit: give at_least where a large value is good, or at_most where "
                "a small one is"
            )
        return self

    def judge(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What a model's manifest says of its gate: the metric, its value, and whether it passed.

        Raises:
            MetricMissingError: The job did not measure the metric.
        """
        value = job.get(f"metric/{self.metric}")
        if not isinstance(value, (int, float)):
            names = sorted(name.removeprefix("metric/") for name in job if "metric/" in name)
            raise MetricMissingError(
                f"The training job measured no {self.metric}, only {', '.join(names) or 'nothing'}:"
                " name one of these as the gate's metric, or give the channel that it is measured "
                "on (test, for k-means). What an image of your own measures is found in its log by "
                "a regular expression under metrics."
            )
        return {"metric": self.metric, "value": value, "passed": self.passes(value)}

    def passes(self, value: float) -> bool:
        """Whether a value is good enough."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least

    def drop(self, candidate: float, live: float) -> float:
        """By how much a value is worse than another."""
        return candidate - live if self.at_most is not None else live - candidate

    def say(self) -> str:
        """What is asked for."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return f"at most {self.at_most:g}"
