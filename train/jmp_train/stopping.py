"""Early stopping: which validation was the best, and when no more is to be learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jmp_train.config import StoppingConfig


class EarlyStopping:
    """Watches the errors of validations; lower is better.

    Source:
        Training specification, section 2.4.
    """

    def __init__(self, config: StoppingConfig) -> None:
        """Start without any validation.

        Args:
            config: Patience and thresholds.
        """
        self._config = config
        self._best = math.inf
        self._counted = math.inf
        self._waited = 0
        self.reason: str | None = None
        """Why the run should stop, in words; None: it should go on."""

    @property
    def best(self) -> float | None:
        """Smallest error so far; None: there was no finite one."""
        return self._best if math.isfinite(self._best) else None

    def update(self, error: float, rate: float) -> bool:
        """Count a validation, and return whether it is the best so far.

        Any smaller error is the best; only an improvement by more than ``min_delta``
        makes the patience start again.

        Args:
            error: Monitored error of the validation part.
            rate: Largest learning rate of all groups.
        """
        config = self._config
        if not math.isfinite(error):
            self.reason = f"the {config.monitor} error of the validation is {error}"
            return False
        is_best = error < self._best
        self._best = min(error, self._best)
        if error < self._counted - config.min_delta:
            self._counted, self._waited = error, 0
        else:
            self._waited += 1
        if config.patience is not None and self._waited >= config.patience:
            self.reason = (
                f"no better {config.monitor} error in {self._waited} validations"
            )
        elif rate < config.min_learning_rate:
            self.reason = (
                f"the learning rate {rate:.3g} is below {config.min_learning_rate:g}"
            )
        return is_best

    def state(self) -> dict[str, Any]:
        """Return what must be saved, as plain JSON."""
        return {
            "best": self.best,
            "counted": self._counted if math.isfinite(self._counted) else None,
            "waited": self._waited,
            "reason": self.reason,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned.

        Args:
            state: Of a run with the same settings.
        """
        self._best = math.inf if state["best"] is None else float(state["best"])
        counted = state["counted"]
        self._counted = math.inf if counted is None else float(counted)
        self._waited = int(state["waited"])
        self.reason = state["reason"]
