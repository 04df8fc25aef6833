"""What people decide over a model: it may go live, it may not, or it may despite its gate.

A decision is over one exact artifact, by its sha256, and not over a date: what is made anew for the
date is another version. Each decision is an object of its own that is never overwritten; the newest
one of a version counts.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

import dagster as dg
from pydantic import Field

from platform_assets.checks import Verdict
from platform_assets.errors import PlatformError
from platform_assets.models.published import PublishedModel
from resources.s3 import Folder, ObjectStore, Publication, list_published

Ruling = Literal["approved", "rejected", "overridden"]
CODE_VERSION = "1"
# Of a version: enough characters to name one, and no more than people copy.
LEAST_CHARACTERS = 12
_AT = "%Y%m%dT%H%M%S.%fZ"
_NAME = r"[0-9TZ.]+"


class DecisionError(PlatformError):
    """A decision that cannot be taken: of nobody, without a reason, or over nothing."""


class DecisionForm(dg.Config):
    """Over which version a person decides, and why."""

    version: str = Field(
        description=(
            f"The version's data version, or its first {LEAST_CHARACTERS} characters at least: as "
            "the Events of the model show it."
        )
    )
    by: str = Field(description="Who decides: your name.")
    why: str = Field(description="The reason, kept with the decision.")

    @classmethod
    def blank(cls) -> "DecisionForm":
        """What the UI's form opens with: it says what belongs there, and is refused as it is."""
        return cls(
            version=f"<{LEAST_CHARACTERS} characters at least, as the model's Events show it>",
            by="<your name>",
            why="<your reason, which is kept>",
        )

    def check(self) -> None:
        """See that it is filled in.

        Raises:
            DecisionError: It is not.
        """
        blank = self.blank()
        empty = [
            name
            for name in ("version", "by", "why")
            if getattr(self, name).strip() in ("", getattr(blank, name))
        ]
        if empty:
            *others, last = empty
            names = f"{', '.join(others)} and {last}" if others else last
            raise DecisionError(
                f"Fill in {names}: which version, who decides, and for what reason."
            )
        if len(self.version.strip()) < LEAST_CHARACTERS:
            raise DecisionError(
                f"{self.version!r} does not name one version: give its data version, at least the "
                f"first {LEAST_CHARACTERS} characters."
            )


@dataclass(frozen=True)
class Decision:
    """What somebody decided.

    Attributes:
        version: sha256 of the artifact.
        date: Of the model that was looked at.
        at: When, ISO 8601 in UTC.
    """

    outcome: Ruling
    version: str
    date: str
    by: str
    why: str
    at: str
    run_id: str

    @classmethod
    def over(
        cls, model: PublishedModel, ruling: Ruling, form: DecisionForm, run_id: str
    ) -> "Decision":
        """A decision that is taken now."""
        at = datetime.now(UTC).isoformat()
        by, why = form.by.strip(), form.why.strip()
        return cls(ruling, model.sha256, model.date, by, why, at, run_id)

    def describe(self) -> str:
        """One sentence for people."""
        return f"{self.outcome.capitalize()} by {self.by} at {self.at}: {self.why}"


@dataclass(frozen=True)
class Decisions:
    """The decisions over the models of a pipeline.

    Attributes:
        prefix: Where they are, `mnist/decisions` for instance.
    """

    store: ObjectStore
    prefix: str

    def record(self, decision: Decision) -> Folder:
        """Keep a decision; returns where."""
        at = datetime.fromisoformat(decision.at).strftime(_AT)
        folder = Folder(self.store, f"{self._of(decision.version)}{at}")
        with Publication(folder) as publication:
            publication.commit(
                partition=decision.date, rows=0, code_version=CODE_VERSION, extra=asdict(decision)
            )
        return folder

    def latest(self, version: str) -> Decision | None:
        """What was last decided over a version; None where nothing was.

        Raises:
            StoreError: The store could not be asked.
        """
        beginning = self._of(version)
        warn = dg.get_dagster_logger().warning
        folders = [item for item, _ in list_published(self.store, beginning, _NAME, warn=warn)]
        if not folders:
            return None
        newest = max(folders, key=lambda folder: folder.prefix).require("a decision")
        return Decision(**newest.manifest.extra)

    def _of(self, version: str) -> str:
        return f"{self.prefix}/sha256={version}/at="

    def overrule(self, verdict: Verdict, model: PublishedModel) -> Verdict:
        """The verdict of a gate, which passes where somebody has overridden it for this version."""
        decision = None if verdict.passed else self.latest(model.sha256)
        if decision is None or decision.outcome != "overridden":
            return verdict
        return Verdict(
            True,
            f"{decision.describe()} {verdict.description}",
            {**verdict.metadata, "overridden_by": decision.by, "reason": decision.why},
        )
