"""Named models: what there is, where it lies, how it gets there, how it is loaded.

Nothing here imports torch until a model is loaded.
"""

from __future__ import annotations

from jmp_calc.pretrained.loading import load_model as load_model
from jmp_calc.pretrained.loading import locate as locate
from jmp_calc.pretrained.table import PRETRAINED as PRETRAINED
from jmp_calc.pretrained.table import Pretrained as Pretrained
from jmp_calc.pretrained.table import find_pretrained as find_pretrained
