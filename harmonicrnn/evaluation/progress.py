"""How far a long piece of work is, as whoever asks for it wants it shown."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

ProgressBar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Shows a bar for a part of the work, given its title and the number of its steps, None where that is not known; what it opens is told of
steps that are done."""


def no_bar(title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """Shows nothing."""
    return nullcontext(lambda steps: None)
