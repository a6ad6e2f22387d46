"""Largest relative error of every parity case against the published network.

    python benchmarks/parity.py CASE.npz ...

float64; tolerances as stated with the cases (tests/golden/cases/README.md).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from provenance import write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "golden"))
from compare import RELATIVE, compare_case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    values = {}
    for path in options.cases:
        rows = compare_case(path)
        plain = [row for row in rows if row.tolerance <= RELATIVE]
        noisy = [row for row in rows if row.tolerance > RELATIVE]
        values[path.stem] = {
            "n_arrays": len(rows),
            "n_beyond_tolerance": sum(not row.is_within for row in rows),
            "largest_relative_error": max(row.error for row in plain),
            "limited_by_stored_noise": {
                row.name: {"relative_error": row.error, "tolerance": row.tolerance}
                for row in noisy
            },
        }
        print(f"{path.stem:32s}{values[path.stem]['largest_relative_error']:10.2e}")
    write_result("parity", values, options.out)


if __name__ == "__main__":
    main()
