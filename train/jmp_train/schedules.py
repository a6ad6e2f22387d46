"""Learning rates of a run: warm-up and cosine, or those and reduction on plateaus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from jmp_calc.errors import ArgumentError
from jmp_train.config import OptimConfig, PlateauConfig, TrainConfig


@runtime_checkable
class Schedule(Protocol):
    """What a trainer asks: the rate of each parameter group at each step."""

    def rates(self, step: int) -> list[float]:
        """Return the learning rate of each group at a step, counted from 0."""

    def after_validation(self, error: float) -> None:
        """Hear about the error that early stopping watches; lower is better."""

    def state(self) -> dict[str, Any]:
        """Return what must be saved, as plain JSON."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""


def build_schedule(
    config: TrainConfig, *, steps_per_epoch: int, n_steps: int, factors: Sequence[float]
) -> Schedule:
    """Return the schedule of a run.

    It is that of ``config.plateau`` if there is one, else that of ``config.optim``. A
    constant rate is ``OptimConfig(warmup_steps=0, final=1.0)``.

    Args:
        config: Peak rate and shape.
        steps_per_epoch: Optimizer steps of an epoch; a plateau schedule counts in them.
        n_steps: Optimizer steps of the run, at whose end the plain cosine ends.
        factors: Factor of each parameter group on the rate.

    Raises:
        ArgumentError: If the plateau schedule makes no sense.
    """
    if config.plateau is None:
        return CosineSchedule(config.optim, n_steps=n_steps, factors=factors)
    return PlateauSchedule(
        config.plateau,
        learning_rate=config.optim.learning_rate,
        steps_per_epoch=steps_per_epoch,
        factors=factors,
    )


def warmup_cosine(
    step: int, *, peak: float, start: float, end: float, warmup: int, total: int
) -> float:
    """Return the rate of a step: linear warm-up, then cosine, then constant.

    Args:
        step: Number of the step, from 0.
        peak: Rate at the end of the warm-up.
        start: Rate at step 0, unless there is no warm-up.
        end: Rate at the end of the cosine and after it.
        warmup: Steps of the warm-up.
        total: Step at which the cosine ends.

    Source:
        Training specification, section 1.8; held at the end value afterwards.
    """
    if step < warmup:
        return start + (peak - start) * step / max(warmup - 1, 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * progress))


class CosineSchedule:
    """Warm-up, cosine, constant; the same shape for all groups.

    Source:
        Training specification, section 1.8.
    """

    def __init__(
        self, config: OptimConfig, *, n_steps: int, factors: Sequence[float]
    ) -> None:
        """Set up the schedule; it keeps no state.

        Args:
            config: Peak, start and end.
            n_steps: Step at which the cosine ends.
            factors: Factor of each group on the rate.
        """
        self._config, self._n_steps = config, n_steps
        self._factors = tuple(factors)

    def rates(self, step: int) -> list[float]:
        """Return the learning rate of each group.

        Args:
            step: Number of the step, from 0.
        """
        config = self._config
        peak = config.learning_rate
        rate = warmup_cosine(
            step,
            peak=peak,
            start=peak * config.warmup_start,
            end=peak * config.final,
            warmup=config.warmup_steps,
            total=self._n_steps,
        )
        return [factor * rate for factor in self._factors]

    def after_validation(self, error: float) -> None:
        """Do nothing: the rate depends on the step alone.

        Args:
            error: Not used.
        """

    def state(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Do nothing: there is no state.

        Args:
            state: Not used.
        """


class PlateauSchedule:
    """Warm-up and cosine counted in epochs, then reduction on plateaus.

    Every group starts from the same fraction of its own peak. Its cosine ends at
    ``clip(final / factor, 0.01, 0.99)`` of that peak, so that, where the clip does not
    act, all groups end at the same rate. From there each validation counts as one
    epoch of torch's ``ReduceLROnPlateau`` with a relative threshold.

    A reduction by less than ``eps`` is not made. With the published 1e-8 and factor
    0.8 a rate therefore never falls below 4e-8 (5e-8 before the last reduction), and a
    stop at a smaller rate never happens; ``eps=0`` makes it happen.

    Source:
        Training specification, section 2.4.
    """

    def __init__(
        self,
        config: PlateauConfig,
        *,
        learning_rate: float,
        steps_per_epoch: int,
        factors: Sequence[float],
    ) -> None:
        """Set up the schedule at step 0.

        Args:
            config: Its shape.
            learning_rate: Peak rate of a group with factor 1.
            steps_per_epoch: Optimizer steps of an epoch.
            factors: Factor of each group on the rate.

        Raises:
            ArgumentError: If the cosine ends before the warm-up, or a reduction would
                not reduce.
        """
        if config.cosine_epochs < config.warmup_epochs:
            raise ArgumentError(
                f"the cosine ends at epoch {config.cosine_epochs:g} and the warm-up at "
                f"{config.warmup_epochs:g}; cosine_epochs must be at least "
                "warmup_epochs"
            )
        if not 0 < config.factor < 1:
            raise ArgumentError(
                f"the plateau factor is {config.factor}; it must be above 0 and below 1"
            )
        self._config = config
        self._warmup = round(config.warmup_epochs * steps_per_epoch)
        self._total = round(config.cosine_epochs * steps_per_epoch)
        self._peaks = [factor * learning_rate for factor in factors]
        self._ends = [
            factor * learning_rate * final_fraction(config.final, factor)
            for factor in factors
        ]
        self._step = -1
        self._plateau = self._reducer(self._ends)

    def _reducer(
        self, rates: Sequence[float]
    ) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
        # The class only reads and writes rates; this optimizer never makes a step.
        holder = torch.optim.SGD(
            [{"params": [torch.zeros(1)], "lr": rate} for rate in rates], lr=0.0
        )
        config = self._config
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            holder,
            factor=config.factor,
            patience=config.patience,
            threshold=config.threshold,
            eps=config.eps,
        )

    def rates(self, step: int) -> list[float]:
        """Return the learning rate of each group, and remember the step.

        Args:
            step: Number of the step, from 0.
        """
        self._step = step
        if step >= self._total:
            return self._reduced
        return [
            warmup_cosine(
                step,
                peak=peak,
                start=peak * self._config.warmup_start,
                end=end,
                warmup=self._warmup,
                total=self._total,
            )
            for peak, end in zip(self._peaks, self._ends, strict=True)
        ]

    @property
    def _reduced(self) -> list[float]:
        return [group["lr"] for group in self._plateau.optimizer.param_groups]

    def after_validation(self, error: float) -> None:
        """Count a validation, if the step before it was not before the cosine's end.

        Args:
            error: Of the validation part; lower is better.
        """
        if self._step + 1 >= self._total:
            self._plateau.step(error)

    def state(self) -> dict[str, Any]:
        """Return the rates and the count of the plateau stage, as plain JSON."""
        best = float(self._plateau.best)
        return {
            "step": self._step,
            "rates": self._reduced,
            "best": best if math.isfinite(best) else None,
            "bad_validations": self._plateau.num_bad_epochs,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned.

        Args:
            state: Of a schedule with the same settings.
        """
        self._step = int(state["step"])
        self._plateau = self._reducer([float(rate) for rate in state["rates"]])
        if state["best"] is not None:
            self._plateau.best = float(state["best"])
        self._plateau.num_bad_epochs = int(state["bad_validations"])


def final_fraction(final: float, factor: float) -> float:
    """Return where the cosine of a group ends, as a fraction of the group's peak.

    Args:
        final: End of the cosine as a fraction of the base rate.
        factor: Factor of the group on the base rate.

    Source:
        Training specification, section 2.4.
    """
    return min(max(final / factor, 0.01), 0.99)
