"""Creation and locking of a run's folder."""

import re
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

from harmonicrnn.errors import UserError
from harmonicrnn.files import check_writable
from harmonicrnn.process_lock import sole_process
from harmonicrnn.runs import CHECKPOINTS


def new_folder(logs: Path, version: int | str | None) -> Path:
    """Create the folder of a new run: `version` if given, else `version_N` with the first free number N, without races.

    Raises:
        UserError: the given version already holds a run.
    """
    if version is not None:
        folder = logs / (version if isinstance(version, str) else f"version_{version}")
        if any((folder / CHECKPOINTS).glob("*.ckpt")):
            raise UserError(f"{folder}: holds a run already; resume it (--ckpt_path last), or set another version")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    taken = (re.fullmatch(r"version_(\d+)", path.name) for path in logs.glob("version_*"))
    for number in count(1 + max((int(found[1]) for found in taken if found), default=-1)):
        folder = logs / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue  # taken by another training that started at the same time
        return folder
    raise AssertionError


def sole_writer(folder: Path) -> AbstractContextManager[None]:
    """Lock a run's folder for this process; the system releases the lock when the process ends.

    Raises:
        UserError: another process trains there, or the folder is not writable.
    """

    def refuse() -> None:
        raise UserError(
            f"{folder}: another training writes there; wait for it, or start a new run, without --ckpt_path or from weights with "
            "--model.init_from"
        )

    check_writable(folder)
    return sole_process(folder / "lock", taken=refuse)
