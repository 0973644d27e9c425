"""The type of progress bars passed to long computations."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

ProgressBar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Opens a bar with a title and a number of steps (None if unknown); the context yields a function to call with numbers of steps done."""


def no_bar(title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """A progress bar that shows nothing."""
    return nullcontext(lambda steps: None)
