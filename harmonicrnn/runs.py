"""Finding runs and their checkpoints.

A run is a folder `LOGS/NAME/version_N` with `config.yaml` and `checkpoints/` holding `best.ckpt` and `last.ckpt`. Folders without a
checkpoint are not runs: they were made by a training that stopped before its first one.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harmonicrnn.errors import UserError

CHECKPOINTS = "checkpoints/*.ckpt"


@dataclass(frozen=True)
class Run:
    """A run's folder and one of its checkpoints."""

    folder: Path
    checkpoint: Path

    @property
    def config(self) -> Path:
        """The full configuration it was trained with; may be missing where the checkpoint was moved."""
        return self.folder / "config.yaml"

    @property
    def goes_on_in_place(self) -> bool:
        """Whether training that goes on from here stays in the folder, as the checkpoint is the run's newest."""
        last = self.checkpoint.with_name("last.ckpt")
        return self.config.is_file() and (self.checkpoint == last or not last.exists())


def find_run(checkpoint: str | None, logs: Path) -> Run:
    """The run meant by `--ckpt_path`.

    Args:
        checkpoint: a file, or "best" or "last" of the newest run below `logs`; None is best, or last where there is no best. A run that was
            killed between writing its first best and its first last goes on from the best, which was made at the same step.
        logs: where runs lie, at any depth.

    Raises:
        UserError: there is no such file or run.
    """
    if checkpoint not in (None, "best", "last"):
        path = Path(str(checkpoint))
        if not path.is_file():
            raise UserError(f"--ckpt_path {checkpoint}: there is no such file; give a checkpoint, best or last")
        path = path.resolve() if path.is_symlink() else path  # a link to a run's checkpoint is that checkpoint
        return Run(path.parents[1] if path.parent.name == "checkpoints" else path.parent, path)
    found = _checkpoints(logs)
    if not found:
        raise UserError(f"{logs}: no run with a checkpoint; train first (python train.py fit --config ...), or give --ckpt_path FILE")
    return _run_of(max(found, key=lambda path: found[path]).parents[1], checkpoint)


def run_at(path: Path) -> Run:
    """The run of a folder, with its best checkpoint or else its last, or of a checkpoint.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        return _run_of(path, None)
    if not path.is_file():
        raise UserError(f"{path}: there is no such run or checkpoint")
    return find_run(str(path), path.parent)


def _run_of(folder: Path, checkpoint: str | None) -> Run:
    for name in {"best": ["best"], "last": ["last", "best"]}.get(str(checkpoint), ["best", "last"]):
        if (path := folder / "checkpoints" / f"{name}.ckpt").is_file():
            return Run(folder, path)
    raise UserError(f"{folder}: has no checkpoints/{checkpoint or 'best or last'}.ckpt; name a checkpoint")


def any_runs(logs: Path) -> bool:
    """Whether a run with a checkpoint lies below `logs`."""
    return bool(_checkpoints(logs))


def _checkpoints(logs: Path) -> dict[Path, float]:
    """Those below `logs`, and when each was changed; links to nothing, and those that vanish while being looked at, are none."""
    found = {}
    for path in logs.rglob(CHECKPOINTS):
        with suppress(OSError):
            if path.is_file():
                found[path] = path.stat().st_mtime
    return found
