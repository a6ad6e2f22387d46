"""Which versions of what a result was made with."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Sequence
from importlib import metadata


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of installed packages, importing none of them.

    Args:
        packages: Names of distributions; those that are not installed are left out.
    """
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
