"""Command `train.py evaluate`: measure and compare models and folders of audio, with a report as JSON and HTML."""

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.data_options import read_data
from cli.evaluation_inputs import gather
from cli.first_pass import log_folder
from cli.progress_bars import progress_bars
from datamodules import AudioDataModule
from datamodules.audio_folder import WholeFolder
from harmonicrnn.audio.writing import writing
from harmonicrnn.cli.generating import add_device
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.evaluator import Evaluator
from harmonicrnn.evaluation.page import number, write_page
from harmonicrnn.evaluation.records import Cell, Report
from harmonicrnn.evaluation.report_folder import PAGE, REPORT, SHARDS, hold_report_folder
from harmonicrnn.files import pasteable, side_product, write_json
from harmonicrnn.metrics import EmbeddingName
from harmonicrnn.runs import Run

DESCRIPTION = (
    "Measure likelihood, Fréchet audio distance and more of models and folders of audio, and write a report as JSON and HTML. Data "
    "settings default to those of the first run (override with --data.root DIR, for example)."
)


def evaluate(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Measure runs, checkpoints and folders of audio against a split or a folder, and write a report folder.

    Raises:
        UserError, ArgumentError: the arguments, runs, audio or weights are invalid, or the report cannot be written.
    """
    if options.help:
        read_data(command, DESCRIPTION, add_options, args)
    console = Console(stderr=True)
    work = gather(options, partial(training_data, options, args), log_folder(options))
    for line in work.conversions():
        print(line, file=sys.stderr)
    run = next((subject.run.folder for subject, _ in work.subjects if subject.run), None)
    with hold_report_folder(options.out, run, work.settings(), options.overwrite) as out:
        if isinstance(work.data, WholeFolder):
            work.data.shards = out / SHARDS
            work.data.setup("test")
        with progress_bars(console) as bar:
            report, examples = Evaluator(work, out, bar).run(shlex.join(["python", "train.py", "evaluate", *args]))
        show(report)
        content = report.to_json()
        with writing(out):
            for name in (REPORT, PAGE):  # of the same command before, so that no page stands beside another report
                (out / name).unlink(missing_ok=True)
        with side_product(out / PAGE):
            write_page(out / PAGE, report, examples)
            print(f"Written to {pasteable(out / PAGE)}")
        # Written last: a folder without it is an incomplete evaluation.
        with writing(out / REPORT):
            write_json(out / REPORT, content)
        print(f"Written to {pasteable(out / REPORT)}")
    return 0


def training_data(options: Namespace, args: Sequence[str], runs: Sequence[Run]) -> AudioDataModule | None:
    """Return the data of the given configs, or else of the first run, overridden by the arguments; None if there is neither.

    Raises:
        UserError: the first run has no config and none is given, or the data module cannot be created.
    """
    own = [] if options.config else [str(run.config) for run in runs if run.config.is_file()][:1]
    if runs and not (options.config or own):
        raise UserError(f"{runs[0].checkpoint}: there is no {runs[0].config} that says what it was trained on; give it with --config")
    if not (options.config or own or "data" in options):
        return None
    return read_data("evaluate", DESCRIPTION, add_options, args, own)


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command, without those of the data."""
    add = parser.add_argument
    add("subjects", nargs="*", type=Path, help="Runs, checkpoints or folders of audio; default: best checkpoint of the newest run.")
    add("--against", type=str, default="test", help="Reference: validation, test, or a folder of audio.")
    add("--clips", type=int, default=256, help="Number of clips that each model draws.")
    add("--batch", type=int, default=32, help="Number of clips drawn together.")
    add("--seed", type=int, default=0, help="Seed of the clips, and of the resampling for confidence intervals.")
    add("--temperature", type=float, default=1.0, help="Divides the logits.")
    add("--top_p", type=float, default=1.0, help="Draw from the smallest set of most likely classes with this total probability.")
    add("--seconds", type=float | None, default=None, help="Seconds of the clips that folders are cut into; null for whole files.")
    add("--embeddings", nargs="+", type=EmbeddingName, default=["logmel"], help="For the FAD: logmel, vggish, pann, encodec, clap.")
    add("--weights", type=Path | None, default=None, help="Folder of the embeddings' weights; null for the folder of torch.hub.")
    add("--extrapolate", action="store_true", help="Extrapolate the FAD to infinitely many clips too (FAD-infinity).")
    add("--classifier", type=Path | None, default=None, help="Checkpoint of a digit classifier, or resnext.pth; adds the SC09 scores.")
    add("--examples", type=int, default=4, help="Number of example clips on the HTML page.")
    add("--out", type=Path | None, default=None, help="Folder of the report; null for evaluation_N in the first run's folder.")
    add("--overwrite", action="store_true", help="Replace an existing evaluation in the folder, with its clips.")
    add("--cache", type=Path | None, default=None, help="Folder for cached statistics of references; null for the user's cache.")
    add_device(parser)


def show(report: Report) -> None:
    """Print the table of a report and its notes."""
    table = Table("what", *(measure.title for measure in report.measures))
    for row in (*report.subjects, *report.untrained, *report.real):
        table.add_row(Text(row.name), *(_text(row.values.get(measure.name)) for measure in report.measures))
    Console().print(table)
    for note in report.notes:
        print(note)


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{number(cell.value)} " + ("({} to {})".format(*map(number, cell.interval)) if cell.interval else "")
