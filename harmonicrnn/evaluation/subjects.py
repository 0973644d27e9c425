"""Finds the subjects of an evaluation: checkpoints of runs and folders of audio."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harmonicrnn.checkpoints import KEY, read_checkpoint
from harmonicrnn.errors import UserError
from harmonicrnn.provenance import sha256
from harmonicrnn.runs import CHECKPOINTS, WEIGHTS, Run, any_runs, find_run


@dataclass(frozen=True)
class Subject:
    """A name for the report, and a run with one of its checkpoints or (run is None) a folder of audio."""

    name: str
    path: Path
    run: Run | None = None

    @cached_property
    def checksum(self) -> str:
        """Returns the SHA-256 of the checkpoint."""
        assert self.run is not None
        return sha256(self.run.checkpoint)

    def provenance(self) -> dict[str, Any]:
        """Returns the provenance of the checkpoint.

        Raises:
            UserError: it cannot be read.
        """
        assert self.run is not None
        content = read_checkpoint(self.run.checkpoint)
        return {
            "checkpoint": str(self.run.checkpoint),
            "sha256": self.checksum,
            "step": content.get("global_step"),
            "averaged_weights": "current_model_state" in content,
            "training": content[KEY],
        }


def find_subjects(paths: Sequence[Path], logs: Path) -> list[Subject]:
    """Resolves paths to subjects: a checkpoint, the best checkpoint of the newest run in a folder, or a folder of audio. Without paths, the
    newest run below `logs`.

    Raises:
        UserError: a path is none of these, or is given twice.
    """
    if not paths:
        return [_of_run(find_run(None, logs))]
    found = [_find(path) for path in paths]
    for i, subject in enumerate(found):
        if subject.path in [other.path for other in found[:i]]:
            raise UserError(f"{subject.path}: is named twice")
    names = [subject.name for subject in found]
    return [subject if names.count(subject.name) == 1 else Subject(str(subject.path), subject.path, subject.run) for subject in found]


def _find(path: Path) -> Subject:
    if path.is_file():
        if path.suffix != ".ckpt":
            raise UserError(f"{path}: is a file and no checkpoint (.ckpt); give a run, a checkpoint or a folder of audio")
        return _of_run(find_run(str(path), path.parent))
    if not path.is_dir():
        raise UserError(f"{path}: there is no such run, checkpoint or folder")
    if (path / WEIGHTS).is_file():
        raise UserError(f"{path}: is a voice, which cannot be evaluated: give its run or checkpoint; or a folder of clips that it drew")
    return _of_run(find_run(None, path)) if any_runs(path) else Subject(path.name or str(path), path)


def _of_run(run: Run) -> Subject:
    folder, own = run.folder, run.checkpoint.parent.name == CHECKPOINTS
    which = "" if own and run.checkpoint.stem == "best" else f" {run.checkpoint.stem}"
    return Subject(f"{folder.parent.name}/{folder.name}{which}" if own else run.checkpoint.name, run.checkpoint, run)
