"""How a person decides over a version: jobs with a form, whose decisions take effect at once.

Dagster's UI asks nobody who they are: `by` is what the person says.
"""

from collections.abc import Callable, Set
from functools import partial
from typing import Any

import dagster as dg

from platform_assets.checks import Verdict, find_targets, log_evaluation
from platform_assets.models.decisions import (
    Decision,
    DecisionError,
    DecisionForm,
    Ruling,
)
from platform_assets.models.deployed_models import M
from platform_assets.models.endpoint import EndpointJobs
from platform_assets.models.serving import DECISION, Serving, as_event
from platform_assets.models.taking_back import Rollback, roll_back, tear_down
from platform_assets.reports import expected_errors_as_failures


def build_endpoint_jobs(
    names: EndpointJobs,
    serve: Callable[[dg.OpExecutionContext], Serving[Any]],
    *,
    resource_keys: Set[str],
    pool: str,
    until: str = ", until it is made again.",
) -> list[dg.JobDefinition]:
    """All jobs by which people change an endpoint; each has one op with a form.

    Args:
        names: Of the jobs.
        serve: From a run to the endpoint.
        resource_keys: What `serve` takes from the run.
        pool: Of all that changes the endpoint: one change at a time, a deploy under way among them.
        until: For how long an endpoint that is torn down stays away, as the end of a sentence.
    """
    form = partial(dg.op, required_resource_keys=set(resource_keys), pool=pool)

    def build_decision(name: str, ruling: Ruling, description: str) -> dg.JobDefinition:
        @form(name=f"{name}_form")
        def decision(context: dg.OpExecutionContext, config: DecisionForm) -> None:
            with expected_errors_as_failures():
                decide(context, serve(context), ruling, config)

        return _build_job(name, description, decision, DecisionForm.blank())

    @form(name=f"{names.roll_back}_form")
    def put_back(context: dg.OpExecutionContext, config: Rollback) -> None:
        """Put an earlier version back and prove it."""
        with expected_errors_as_failures():
            roll_back(context, serve(context), config.to)

    @form(name=f"{names.tear_down}_form")
    def delete(context: dg.OpExecutionContext) -> None:
        """Delete the endpoint; its versions stay: the next deploy or rollback finds them."""
        with expected_errors_as_failures():
            tear_down(context, serve(context))

    return [
        build_decision(
            names.approve,
            "approved",
            "A person approves one version that passed its gate; it goes live.",
        ),
        build_decision(
            names.reject,
            "rejected",
            "A person rejects one version: it never goes live, unless it is approved later.",
        ),
        build_decision(
            names.override,
            "overridden",
            "A person lets one version go live although its gate refused it, and says why.",
        ),
        _build_job(
            names.roll_back,
            "Puts the endpoint's previous version, or a named one, back into service.",
            put_back,
            Rollback(),
        ),
        _build_job(
            names.tear_down, f"Deletes the endpoint, so that it costs nothing{until}", delete
        ),
    ]


def _build_job(
    name: str, description: str, op: dg.OpDefinition, form: dg.Config | None = None
) -> dg.JobDefinition:
    # With a configuration of its own, the UI's form opens with this and not with all resources'.
    config = dg.RunConfig(ops={op.name: form} if form else {})

    @dg.job(name=name, description=description, config=config)
    def job() -> None:
        op()

    return job


def decide(
    context: dg.OpExecutionContext, serving: Serving[M], ruling: Ruling, form: DecisionForm
) -> None:
    """Keep a person's decision, show it on the model's page, and let it take effect.

    Raises:
        DecisionError: The form is not filled in, or the decision would have no effect.
        SageMakerError: The version could not be deployed; the decision is kept, so that the next
            run of the endpoint's asset tries again.
    """
    form.check()
    models, model = serving.models, find_version(serving, form.version.strip())
    _require_effect(serving, model, ruling)
    decision = Decision.over(model, ruling, form, context.run.run_id)
    kept_in = models.decisions.record(decision)
    context.log_event(
        dg.AssetObservation(
            models.judged,
            partition=model.date,
            description=decision.describe(),
            metadata={
                DECISION: ruling,
                "version": model.sha256,
                "by": decision.by,
                "why": decision.why,
                "dagster/uri": kept_in.uri,
            },
        )
    )
    if ruling == "rejected":
        return
    if ruling == "overridden":
        # Or else the model's page would go on showing that its gate refuses it.
        targets = find_targets(context, models.judged, [model.date])
        verdict = Verdict(True, decision.describe(), {"overridden_by": decision.by})
        check = dg.AssetCheckKey(models.judged, models.check)
        log_evaluation(context, check, model.date, verdict, targets.get(model.date))
    result = serving.reconcile(context)
    if result is not None:
        context.log_event(as_event(models.served, result))


def find_version(serving: Serving[M], version: str) -> M:
    """The newest date's model of a version.

    Args:
        version: Its data version, or what that begins with.

    Raises:
        DecisionError: There is none.
    """
    for candidate in serving.models.candidates(log=serving.log):
        if candidate.sha256.startswith(version):
            return candidate
    asset = serving.models.judged.to_user_string()
    raise DecisionError(
        f"No date of {asset} has version {version} now: what was made anew for a date is another "
        f"version. Look at the newest materialisation of {asset}, and decide over that one."
    )


def _require_effect(serving: Serving[M], model: M, ruling: Ruling) -> None:
    """See that a decision says what its job is for, and changes what happens.

    Raises:
        DecisionError: It does not; says what to do instead.
    """
    jobs, live, name = serving.models.jobs, serving.find_live(), f"Version {model.sha256[:12]}"
    is_live = live is not None and live.sha256 == model.sha256
    if ruling == "rejected":
        if is_live:
            raise DecisionError(f"{name} is live: take it back by the job {jobs.roll_back}.")
        return
    if is_live:
        raise DecisionError(f"{name} is live already: there is nothing to decide.")
    if live is not None and model.date < live.date:
        raise DecisionError(
            f"{name} is of {model.date}, and the live one of {live.date} is newer: what was live "
            f"before comes back by the job {jobs.roll_back}."
        )
    if version := serving.endpoint.find_rolled_back(model.sha256, serving.versions()):
        raise DecisionError(
            f"{name} was rolled back: it comes back by the job {jobs.roll_back} with to: "
            f"{version.version}."
        )
    passed, compared = serving.models.passes(model), serving.models.margin(live).judge(model)
    if ruling == "approved" and not (passed and compared.passed):
        below = compared.description if passed else "It is below the gate's floor."
        raise DecisionError(
            f"The gate refuses {name.lower()}. {below} If it is to go live all the same, run the "
            f"job {jobs.override}."
        )
    if ruling == "overridden" and passed and compared.passed:
        raise DecisionError(
            f"{name} passes its gate: there is nothing to override. Where it waits for a person, "
            f"run the job {jobs.approve}."
        )
