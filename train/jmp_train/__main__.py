"""Let ``python -m jmp_train``, and so torchrun, run the command."""

from __future__ import annotations

import sys

from jmp_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
