"""The folder that a training writes, kept to one process."""

import re
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

from datamodules.process_lock import sole_process
from harmonicrnn.errors import UserError
from harmonicrnn.files import check_writable
from harmonicrnn.runs import CHECKPOINTS


def new_folder(logs: Path, version: int | str | None) -> Path:
    """Makes the folder of a new run: of the version that was set, or of the first free number, which no other can take any more.

    Raises:
        UserError: the one that was set holds a run.
    """
    if version is not None:
        folder = logs / (version if isinstance(version, str) else f"version_{version}")
        if any((folder / CHECKPOINTS).glob("*.ckpt")):
            raise UserError(f"{folder}: holds a run already; go on with it (--ckpt_path last), or set another version")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    taken = (re.fullmatch(r"version_(\d+)", path.name) for path in logs.glob("version_*"))
    for number in count(1 + max((int(found[1]) for found in taken if found), default=-1)):
        folder = logs / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue  # another training that started at the same time was faster
        return folder
    raise AssertionError


def sole_writer(folder: Path) -> AbstractContextManager[None]:
    """Keeps a run's folder to this process; the system ends that when the process does, however it ends.

    Raises:
        UserError: another process trains there, or nothing can be written there.
    """

    def refuse() -> None:
        raise UserError(
            f"{folder}: another training writes there; let it end, or begin a run of its own: without --ckpt_path, or from weights "
            "with --model.init_from"
        )

    check_writable(folder)
    return sole_process(folder / "lock", taken=refuse)
