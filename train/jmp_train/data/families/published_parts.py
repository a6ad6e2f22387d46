"""Which part a folder of the Open Catalyst sets holds, by the names of its folders."""

from __future__ import annotations

import re
from pathlib import Path

from jmp_train.data.splits import Split

_PARTS: tuple[tuple[re.Pattern[str], Split | None], ...] = (
    (re.compile(r"(s2ef_)?train(_(200K|2M|20M|all))?"), "train"),
    (re.compile(r"(s2ef_)?val(_id)?"), "val"),
    (re.compile(r"(s2ef_)?val_ood(_(ads|cat|both))?|test"), "test"),
    # The labels of these were never published.
    (re.compile(r"test_(id|ood)|s2ef_test_lmdbs"), None),
)


def published_part(path: Path, source: Path) -> tuple[bool, Split | None]:
    """Return whether a file is of use, and its part (None: its folders do not tell).

    The validation systems out of the domain of the training part test; published tests
    have no labels and are of no use.

    Args:
        path: The file.
        source: The file or folder that the user gave.
    """
    folder = source.parent if source.is_file() else source
    names = [folder.name, *path.relative_to(folder).parts[:-1]]
    for name in reversed(names):
        for pattern, split in _PARTS:
            if pattern.fullmatch(name):
                return split is not None, split
    return True, None


def training_sizes(paths: list[Path], source: Path) -> dict[str, list[Path]]:
    """Return the files of each folder ``s2ef_train_SIZE`` by size.

    Args:
        paths: Files.
        source: The folder that the user gave.
    """
    sizes: dict[str, list[Path]] = {}
    for path in paths:
        for name in (source.name, *path.relative_to(source).parts[:-1]):
            if match := re.fullmatch(r"s2ef_train_(200K|2M|20M|all)", name):
                sizes.setdefault(match[1], []).append(path)
                break
    return sizes
