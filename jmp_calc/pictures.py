"""How all pictures look, and how they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
    "#8c6d31",
)
"""Told apart with every kind of colour vision.

Source:
    Okabe and Ito, Color Universal Design (2008), without yellow and with a brown.
"""
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""Line styles that go with a second distinction."""
GRAY = "#707070"
"""Reference lines and notes."""
_ENDINGS = (".png", ".pdf", ".svg")


def require_matplotlib() -> None:
    """Check that pictures can be made.

    Raises:
        ArgumentError: If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ArgumentError(
            "a picture needs matplotlib, which is not installed; "
            "run: pip install 'jmp-calc[plot]'"
        ) from None


def color(place: int) -> str:
    """Return the colour of the n-th thing in a picture.

    Args:
        place: From 0; they repeat.
    """
    return COLORS[place % len(COLORS)]


def dashes(place: int) -> Any:
    """Return the line style of the n-th thing in a picture.

    Args:
        place: From 0; they repeat.
    """
    return DASHES[place % len(DASHES)]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure.

    Args:
        width: Inches.
        height: Inches.

    Raises:
        ArgumentError: If matplotlib is not installed.
    """
    require_matplotlib()
    # no pyplot: it would hold global state and choose a window system
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Axes) -> None:
    """Take away the frame on the right and above, and draw a faint grid.

    Args:
        axes: One panel.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", color="#e4e4e4", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize="small")


def legend_above(axes: Axes, *, columns: int = 3) -> None:
    """Put the legend above the axes, where no curve can pass behind it.

    Args:
        axes: One panel with labelled curves.
        columns: Entries side by side.
    """
    axes.legend(
        frameon=False,
        ncols=columns,
        fontsize="small",
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
    )


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a picture, whole or not at all, and return its path.

    Args:
        figure: The picture.
        path: Where to; the ending decides the format.

    Raises:
        ArgumentError: If the ending is not known.
        DataError: If the file cannot be written.
    """
    if path.suffix not in _ENDINGS:
        raise ArgumentError(
            f"the picture is to be {path.name!r}; its name must end in "
            f"{', '.join(_ENDINGS)}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            figure.savefig(new, dpi=160, format=path.suffix[1:])
    except OSError as error:
        raise DataError(
            f"the picture {path} cannot be written ({error.strerror or error}); choose "
            "another folder"
        ) from error
    return path
