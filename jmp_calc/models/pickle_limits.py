"""What a checkpoint's pickle may name and which instructions it may use."""

from __future__ import annotations

import pickletools
import sys
from typing import Any

from jmp_calc.errors import CheckpointError

BUILTINS = ("builtins", "__builtin__")
"""Names of the module of built-in objects, of Python 3 and 2."""
MAX_TUPLE_WEIGHT = 100_000
"""Largest accepted number of items of a tuple, those of tuples within it included."""
MAX_HUGE_NUMBERS = 1000
"""Largest accepted number of whole numbers that do not fit into 60 bits. Such numbers
can be chosen to have one hash, which makes a dict of a million of them take hours."""

_DATA_MODULES = frozenset(
    [
        "_codecs",
        "argparse",
        "array",
        "collections",
        "copyreg",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "ipaddress",
        "logging",
        "numbers",
        "pathlib",
        "re",
        "signal",
        "string",
        "time",
        "types",
        "typing",
        "uuid",
        "zoneinfo",
    ]
)
"""Modules of the standard library that stand for data in an honest checkpoint."""
_DATA_BUILTINS = frozenset(
    [
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "object",
        "range",
        "set",
        "slice",
        "str",
        "tuple",
    ]
)
_LEGACY_MODULES = frozenset(("commands", "cPickle", "imp", "popen2"))
_REFUSED_OPCODES = frozenset(
    ("EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER")
)
_FILLING_OPCODES = frozenset(
    ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
)


def refuse_code(module: str, name: str) -> None:
    """Refuse a name that belongs to Python itself and is more than data.

    Names of other packages pass: nothing is imported, they become inert records.

    Args:
        module: Dotted name of the module.
        name: Name within it.

    Raises:
        CheckpointError: If it is code.
    """
    top = module.partition(".")[0]
    if module in BUILTINS:
        is_code = name not in _DATA_BUILTINS
    else:
        is_standard = top in sys.stdlib_module_names or top in _LEGACY_MODULES
        is_code = is_standard and top not in _DATA_MODULES
    if is_code:
        raise CheckpointError(
            f"the file names {module}.{name}, which is code and not data; nothing was "
            "run, but do not trust this file"
        )


def check_instructions(data: bytes) -> None:
    """Refuse instructions that reach past ``find_class`` or only waste time or memory.

    Args:
        data: A pickle.

    Raises:
        CheckpointError: If there is such an instruction.
        ValueError: If the pickle cannot be taken apart.
    """
    tuples, n_huge = _TupleWeights(), 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        tuples.follow(opcode, argument)
        n_huge += isinstance(argument, int) and abs(argument) >= 2**60
        if n_huge > MAX_HUGE_NUMBERS:
            raise CheckpointError(
                f"the file holds more than {MAX_HUGE_NUMBERS} whole numbers of more "
                "than 60 bits; it is damaged or hostile"
            )
        if opcode.name in _REFUSED_OPCODES:
            raise CheckpointError(
                f"the file uses the pickle instruction {opcode.name} at {position}, "
                "which no checkpoint needs; nothing was run"
            )
        if opcode.name.endswith("PUT") and argument is not None and argument > count:
            raise CheckpointError(
                f"the file asks for {argument} memory slots after {count} "
                "instructions; it is damaged or hostile"
            )


class _TupleWeights:
    """Follows the stack of a pickle to see how much each tuple would cost to hash.

    A few dozen instructions make a tuple of two references to a tuple of two
    references to ...; as the key of a dict it takes longer than the universe has.
    """

    def __init__(self) -> None:
        self._stack: list[int | None] = []
        self._memo: dict[int, int] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Apply one instruction; None on the stack is a mark, a number a weight."""
        name, stack, top = opcode.name, self._stack, self._stack[-1:]
        if name.endswith("PUT") or name == "MEMOIZE":
            place = len(self._memo) if argument is None else argument
            self._memo[place] = top[0] or 1 if top else 1
            return
        taken = self._take(opcode)
        if name == "DUP":
            stack.extend(taken * 2)
        elif name.endswith("GET"):
            stack.append(self._memo.get(argument, 1))
        elif name.startswith("TUPLE"):
            stack.append(1 + sum(weight or 1 for weight in taken))
            if (stack[-1] or 0) > MAX_TUPLE_WEIGHT:
                raise CheckpointError(
                    "the file holds tuples within tuples that would take forever to "
                    "compare; it is damaged or hostile"
                )
        elif opcode.stack_after == [pickletools.markobject]:
            stack.append(None)
        elif name in _FILLING_OPCODES:
            # With nothing to fill in, these leave a tuple below as it is.
            stack.append(taken[-1] if taken else 1)
        else:
            stack.extend([1] * len(opcode.stack_after))

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[int | None]:
        """Remove and return what an instruction consumes."""
        stack, before = self._stack, list(opcode.stack_before)
        taken: list[int | None] = []
        if pickletools.markobject in before:
            while stack and stack[-1] is not None:
                taken.append(stack.pop())
            if stack:
                stack.pop()
            before = before[: before.index(pickletools.markobject)]
        for _ in before:
            if stack:
                taken.append(stack.pop())
        return taken
