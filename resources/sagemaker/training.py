"""Waits for training jobs, one or many, and stops them all when the run is interrupted.

Jobs are polled, not awaited in threads of their own: Dagster interrupts the main thread, and that
is where they have to be stopped.
"""

import time
from collections.abc import Sequence

from resources.sagemaker.errors import SageMakerError, SpecError
from resources.sagemaker.job_run import JobRun, Trainer
from resources.sagemaker.trained_job import TrainedJob
from resources.sagemaker.training_spec import TrainingJobSpec


def train(trainer: Trainer, spec: TrainingJobSpec) -> TrainedJob:
    """Run one job; the errors are those of `JobRun`."""
    (outcome,) = train_all(trainer, [spec], at_once=1)
    if isinstance(outcome, SageMakerError):
        raise outcome
    return outcome


def train_all(
    trainer: Trainer, specs: Sequence[TrainingJobSpec], *, at_once: int
) -> list[TrainedJob | SageMakerError]:
    """Run many jobs, so many at once, and wait for all of them in this thread.

    Returns:
        For each spec its job, or the error that it came to.
    """
    if at_once < 1:
        raise SpecError(f"At least one job must be allowed to run at one time, not {at_once}.")
    outcomes: dict[int, TrainedJob | SageMakerError] = {}
    waiting = list(enumerate(specs))[::-1]
    running: dict[int, JobRun] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number, spec = waiting.pop()
                running[number] = JobRun(trainer, spec)
                _step(outcomes, running, number, begin=True)
            for number in list(running):
                _step(outcomes, running, number)
            if running and (not waiting or len(running) == at_once):
                time.sleep(trainer.poll_seconds)
    except BaseException:
        # Interrupted: Dagster's interruption and KeyboardInterrupt are no Exceptions.
        for job in running.values():
            job.abandon()
        raise
    return [outcomes[number] for number in range(len(specs))]


def _step(
    outcomes: dict[int, TrainedJob | SageMakerError],
    running: dict[int, JobRun],
    number: int,
    *,
    begin: bool = False,
) -> None:
    job = running[number]
    try:
        outcome = job.begin() if begin else job.poll()
    except SageMakerError as error:
        outcome = error
        if not error.transient:  # where it is, the next attempt attaches
            job.abandon()
    if outcome is not None:
        outcomes[number] = outcome
        del running[number]
