"""Chooses, creates and holds the folder of an evaluation, and resumes interrupted ones."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from harmonicrnn.audio.writing import writing
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.subjects import Subject
from harmonicrnn.files import check_writable, write_json
from harmonicrnn.generation.own_folder import holds_files, numbered_folder, sole_folder

SETTINGS, CLIPS, SHARDS = "settings.json", "clips", "shards"
REPORT, PAGE = "report.json", "report.html"
NAME, COMMAND = "evaluation", "evaluate"


@contextmanager
def hold_report_folder(out: Path | None, run: Path | None, settings: dict[str, Any], overwrite: bool) -> Iterator[Path]:
    """Creates the folder of an evaluation with these settings and holds it for this process.

    Clips of the same settings are kept there unless `overwrite` is True; a report, page and clips of others are removed.

    Args:
        out: named by the user; None for `evaluation_N` in the run's folder: the last one if it was cut short with these settings, else a
            new one.
        run: folder of the first run; None without runs.
        settings: all that the report depends on, as JSON values.
        overwrite: whether an existing evaluation may be replaced.

    Raises:
        UserError: the folder is in use, cannot be written, or is a file.
    """
    with ExitStack() as held:
        if out is not None:
            _check(out, settings, overwrite)  # first, so that nothing is written into a folder of other files
            held.enter_context(sole_folder(out, COMMAND))
            _check(out, settings, overwrite)  # another process may have written there meanwhile
        elif run is None:
            raise UserError("name a folder for the report with --out: there is no run with a folder to put it in")
        else:
            check_writable(run)
            out = _cut_short(run, settings, held) or held.enter_context(numbered_folder(run, NAME, COMMAND))
        with writing(out):
            if overwrite or _settings_in(out) != settings:
                for name in (REPORT, PAGE, SETTINGS):
                    (out / name).unlink(missing_ok=True)
                shutil.rmtree(out / CLIPS, ignore_errors=True)
            write_json(out / SETTINGS, settings)
        yield out


def _cut_short(run: Path, settings: dict[str, Any], held: ExitStack) -> Path | None:
    """Holds and returns the last evaluation of a run if it was cut short with these settings and no process works on it."""
    number = 0
    while (run / f"{NAME}_{number}").exists():
        number += 1
    last = run / f"{NAME}_{number - 1}"
    if _settings_in(last) != settings:
        return None
    with suppress(UserError):  # another process works on it
        held.enter_context(sole_folder(last, COMMAND))
        return None if (last / REPORT).exists() else last
    return None


def _check(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    if holds_files(out):
        if (before := _settings_in(out)) is None:
            raise UserError(f"--out {out}: holds files but no {SETTINGS} of an evaluation; nothing in it is overwritten")
        if before != settings and not overwrite:
            differing = ", ".join(key for key in settings if before.get(key) != settings[key])
            raise UserError(
                f"--out {out}: holds an evaluation with other settings ({differing}); name another folder, or replace it with --overwrite"
            )
    check_writable(out)


def _settings_in(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / SETTINGS).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def clips_folder(out: Path, number: int, subject: Subject) -> Path:
    """Returns the folder of a subject's clips."""
    return out / CLIPS / f"{number}_{re.sub(r'[^A-Za-z0-9.-]+', '_', subject.name)}"
