"""How far a command's work is, in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from harmonicrnn.evaluation.progress import ProgressBar


@contextmanager
def progress_bars(console: Console) -> Iterator[ProgressBar]:
    """What shows a bar for each part of the work."""
    # Titles hold names of the user's files, which are no markup.
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bars:

        @contextmanager
        def bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
            task = bars.add_task(title, total=total)
            yield lambda steps: bars.advance(task, steps)
            bars.remove_task(task)

        yield bar
