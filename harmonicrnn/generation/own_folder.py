"""Output folders in which one process writes at a time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from harmonicrnn.audio.writing import writing
from harmonicrnn.errors import UserError
from harmonicrnn.files import PART
from harmonicrnn.process_lock import sole_process

LOCK = ".lock"


def holds_files(folder: Path) -> bool:
    """Returns whether a folder exists and holds more than what a killed process may leave before its first file."""
    return folder.is_dir() and any(path.suffix != PART and path.name != LOCK for path in folder.iterdir())


@contextmanager
def numbered_folder(parent: Path, name: str, command: str) -> Iterator[Path]:
    """Creates and holds the first free folder `name_N`, see `sole_folder`; without races."""
    with writing(parent):
        for number in count():
            folder = parent / f"{name}_{number}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue  # possibly taken by another process that started at the same time
            break
    try:
        with sole_folder(folder, command):
            yield folder
    finally:
        _remove_empty(folder)


@contextmanager
def sole_folder(folder: Path, command: str) -> Iterator[None]:
    """Holds a folder for this process, until it ends at the latest. Creates the folder; removes it again if nothing was written.

    Args:
        folder: may exist.
        command: that writes there, for the message.

    Raises:
        UserError: another process holds the folder, or it cannot be written.
    """

    def refuse() -> None:
        raise UserError(f"{folder}: another `{command}` writes there; wait for it, or name another folder with --out")

    made, lock = not folder.exists(), folder / LOCK
    with ExitStack() as held:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if made:
                held.callback(_remove_empty, folder)
            held.enter_context(sole_process(lock, taken=refuse))
            held.callback(lock.unlink, missing_ok=True)  # while it is held, so that nobody else's is removed
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
