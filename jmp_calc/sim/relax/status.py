"""Words for how the relaxation of a structure ended."""

from __future__ import annotations

CONVERGED = "converged"
"""Forces and stress are below the limits."""
NOT_CONVERGED = "not converged"
"""All steps were done, and forces or stress are still above."""
UNSTABLE = "unstable"
"""Energy, forces or volume left the physical range on the way."""
REFUSED = "refused"
"""The calculator, or this way to relax, cannot be used for the structure."""
INTERRUPTED = "interrupted"
"""The user or the system stopped the work (Ctrl-C, SIGTERM) on the way."""
NOT_STARTED = "not started"
"""The work was stopped before its turn."""

STATUSES = (CONVERGED, NOT_CONVERGED, UNSTABLE, REFUSED, INTERRUPTED, NOT_STARTED)
"""All of them."""
