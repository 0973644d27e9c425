import pytest
import torch

from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import ClipSetInfo
from harmonicrnn.evaluation.examples import AudioExample, ExampleGroup
from harmonicrnn.evaluation.page import write_page
from harmonicrnn.evaluation.records import Cell, Measure, Report, Row


@pytest.fixture
def report():
    return Report(
        created="",
        command="",
        reference=ClipSetInfo("<real>", "real", "protocol", "0", 8000, None),
        measures=[Measure("FID", "FID", "lower is better")],
        subjects=[],
        real=[Row(name="digits", clips=3, values={"FID": Cell(0.125, (0.1, 0.2), "too few")})],
        published=[],
        notes=[],
        settings={"seed": 0},
        embeddings=[],
        classifier=None,
        training=None,
        code="",
        python="",
        libraries={},
    )


def test_a_page_that_cannot_be_written_is_named(report, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/report\.html: cannot be written"):
        write_page(tmp_path / "file/report.html", report, [])


def test_the_page_shows_cells_with_their_marks_and_the_first_seconds_of_long_clips(report, tmp_path):
    example = ExampleGroup("Clip 0", [AudioExample("long", torch.zeros(31 * 8000), 8000)])
    write_page(tmp_path / "report.html", report, [example])
    page = (tmp_path / "report.html").read_text()
    for part in ("0.1250", "0.1000 to 0.2000", 'title="too few"', "&lt;real&gt;", "long, the first 30 s"):
        assert part in page
    assert page.count("<audio") == 1
