"""The comparison of a model with the live one: by how much it may be worse.

A gate has it beside its fixed floor. What is compared stands in `mnist/gate.py` and in
`components/trained_models.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic

from platform_assets.checks import Verdict
from platform_assets.models.deployed_models import M

# Rounds differences of floats, so that 0.97 - 0.95 is not more than 0.02.
_DECIMALS = 9


@dataclass
class Margin(ABC, Generic[M]):
    """Compares models with the live one.

    The comparison depends on which model is live at the moment: it is made by a check and once more
    before a deploy, and is not recorded, since the record would be wrong as soon as another one is
    live.
    """

    live: M | None

    @abstractmethod
    def compare(self, candidate: M, live: M) -> Verdict:
        """Whether a model is no worse than the live one by more than its gate allows.

        Raises:
            NotPublishedError: What they are compared on is not there any more.
        """

    def judge(self, candidate: M) -> Verdict:
        """As `compare`, where there is something to compare with.

        A candidate that is older than the live one would not replace it, and passes.
        """
        live = self.live
        if live is None:
            return Verdict(True, "Nothing is live that it could be compared with.")
        if live.sha256 == candidate.sha256:
            return Verdict(True, "It is what is live.")
        if candidate.date < live.date:
            return Verdict(True, f"It does not replace the newer one of {live.date}, that is live.")
        return self.compare(candidate, live)


def is_within(drop: float, max_drop: float) -> bool:
    """Whether a model is worse than another by no more than is allowed."""
    return round(drop, _DECIMALS) <= max_drop
