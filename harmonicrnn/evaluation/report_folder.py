"""Chooses and creates the folder of an evaluation, and resumes interrupted ones."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from harmonicrnn.audio.writing import writing
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.subjects import Subject
from harmonicrnn.files import PART, check_writable, write_json

SETTINGS, CLIPS, SHARDS = "settings.json", "clips", "shards"
REPORT, PAGE = "report.json", "report.html"


def choose_folder(out: Path | None, run: Path | None, settings: dict[str, Any], overwrite: bool) -> Path:
    """Returns the folder of an evaluation with these settings; creates and removes nothing.

    Args:
        out: named by the user; None for `evaluation_N` in the run's folder: the last one if it was cut short with these settings, else a
            new one.
        run: folder of the first run; None without runs.
        settings: all that drawn clips depend on, as JSON values.
        overwrite: whether an existing evaluation may be replaced.

    Raises:
        UserError: the folder is in use, cannot be written, or is a file.
    """
    if out is None:
        if run is None:
            raise UserError("name a folder for the report with --out: there is no run with a folder to put it in")
        number = 0
        while (run / f"evaluation_{number}").exists():
            number += 1
        last = run / f"evaluation_{number - 1}"
        goes_on = _settings_in(last) == settings and not (last / REPORT).exists()
        out = last if goes_on else run / f"evaluation_{number}"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(path.suffix != PART for path in out.iterdir()):  # .part files may be left by a kill
        if (before := _settings_in(out)) is None:
            raise UserError(f"--out {out}: holds files but no {SETTINGS} of an evaluation; nothing in it is overwritten")
        if before != settings and not overwrite:
            differing = ", ".join(key for key in settings if before.get(key) != settings[key])
            raise UserError(
                f"--out {out}: holds an evaluation with other settings ({differing}); name another folder, or replace it with --overwrite"
            )
    check_writable(out)
    return out


def begin_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Creates the folder; existing contents are kept if their settings are the same and `overwrite` is False."""
    with writing(folder):
        if overwrite or _settings_in(folder) != settings:
            for name in (REPORT, PAGE, SETTINGS):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / CLIPS, ignore_errors=True)
        write_json(folder / SETTINGS, settings)


def _settings_in(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / SETTINGS).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def clips_folder(out: Path, number: int, subject: Subject) -> Path:
    """Returns the folder of a subject's clips."""
    return out / CLIPS / f"{number}_{re.sub(r'[^A-Za-z0-9.-]+', '_', subject.name)}"
