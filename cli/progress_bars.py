"""Progress bars of commands in the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from harmonicrnn.evaluation.untrained import ProgressBar


@contextmanager
def progress_bars(console: Console) -> Iterator[ProgressBar]:
    """Yield a function that shows a progress bar with a title and a total."""
    # Titles contain file names, which must not be read as markup.
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bars:

        @contextmanager
        def bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
            task = bars.add_task(title, total=total)
            yield lambda steps: bars.advance(task, steps)
            bars.remove_task(task)

        yield bar
