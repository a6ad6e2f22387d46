"""The kinds of geometry that can be made; each maker belongs to one."""

from __future__ import annotations

from jmp_train.data.kinds.complexes import joined
from jmp_train.data.kinds.displaced import perturbed, strained, stretched, turned
from jmp_train.data.kinds.geometry import Maker
from jmp_train.data.kinds.paths import reacting
from jmp_train.data.kinds.thermal import relaxed, simulated, vibrating

MAKERS: dict[str, Maker] = {
    "perturb": perturbed,
    "md": simulated,
    "stretch": stretched,
    "strain": strained,
    "relax": relaxed,
    "vibrate": vibrating,
    "torsion": turned,
    "complex": joined,
    "path": reacting,
}
"""What makes each kind of geometry, in the order of ``KINDS``."""
