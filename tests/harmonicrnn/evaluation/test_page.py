"""Tests of the HTML page of an evaluation: cells, audio examples, caveats and colours."""

import re
from dataclasses import replace

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
        measures=[Measure(name, name, "lower is better") for name in ("NLL", "FID")],
        subjects=[],
        untrained=[Row(name="last sample", clips=3, values={"NLL": Cell(4.5)}, kind="without any training")],
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
    for part in ("0.1250", "0.1000 to 0.2000", 'title="too few"', "&lt;real&gt;", "long, the first 30 s", "last sample", "4.500"):
        assert part in page
    assert page.count("<audio") == 1


def test_caveats_stand_in_one_banner_and_the_command_can_be_copied(report, tmp_path):
    write_page(tmp_path / "report.html", replace(report, notes=["few clips", "other <data>"], command="python train.py evaluate 'a b'"), [])
    page = (tmp_path / "report.html").read_text()
    banner = re.search(r'<aside class="banner".*?</aside>', page, re.DOTALL)[0]
    assert re.findall(r"<li>(.*?)</li>", banner) == ["few clips", "other &lt;data&gt;"]
    assert '<pre class="command" id="command">python train.py evaluate &#39;a b&#39;</pre>' in page
    write_page(tmp_path / "report.html", report, [])
    assert "<aside" not in (tmp_path / "report.html").read_text()


def test_no_colour_is_told_but_by_names_that_the_dark_mode_has_too(report, tmp_path):
    write_page(tmp_path / "report.html", report, [])
    style = re.search(r"<style>(.*?)</style>", (tmp_path / "report.html").read_text(), re.DOTALL)[1]
    light, dark = (re.findall(r"(--\w+): #", part) for part in style.split("prefers-color-scheme: dark")[:2])
    assert light == dark
    rules = style.split("\n", 3)[3]
    assert re.findall(r"#[0-9a-f]{3,6}", rules) == ["#fff"]  # behind the pictures
