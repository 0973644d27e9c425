"""Tests of the page in a real browser: sound, pictures, saving, stopping and refusals."""

import asyncio
import json
import re

import numpy as np
import pytest
import soundfile

from harmonicrnn import load
from tests.harmonicrnn.live.chromium import opened
from tests.harmonicrnn.live.listeners import Hum, ask, on_air

STATUS = "document.getElementById('status').textContent"
READY = "document.getElementById('play') && !document.getElementById('play').disabled"
COLUMNS = """(() => {  // how many of a picture's columns show something, and how many colours there are
  const picture = document.getElementById(%s), {data} = picture.getContext("2d").getImageData(0, 0, picture.width, picture.height);
  const seen = new Set(), colours = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3]) { seen.add(i / 4 %% picture.width); colours.add(data.slice(i, i + 3).join()); }
  return [seen.size, colours.size];
})()"""

BRIGHTEST = """(() => {  // of the bands of a column
  const {data} = document.getElementById("mel").getContext("2d").getImageData(590, 0, 1, 80);
  const light = [...Array(80).keys()].map((row) => data[4 * row] + data[4 * row + 1]);
  return 79 - light.indexOf(Math.max(...light));
})()"""


class Whistle(Hum):
    """Makes blocks of a sine of 1 kHz, at half of full scale."""

    def stream(self, *prompt, **asked):
        blocks = super().stream(*prompt, **asked)
        sine = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(400) / 8000)).astype(np.float32)

        class Sines(type(blocks)):
            def __next__(self):
                super().__next__()
                return sine

        blocks.__class__ = Sines
        return blocks


@pytest.fixture
def voice():
    return Whistle()


@pytest.fixture
def browse(voice, tmp_path):
    """Returns a function that runs a visit, an async function of the page and the server's port."""

    def run(visit):
        async def visited():
            async with opened(f"http://127.0.0.1:{port}/", tmp_path) as page:
                await page.until(READY)
                await visit(page, port)
                wrong = [each for each in page.events if each["method"] == "Runtime.exceptionThrown"]
                wrong += [each for each in page.events if each["method"] == "Log.entryAdded" and "Content Security" in str(each)]
                assert wrong == []

        with on_air({"a/whistle": voice}) as port:
            asyncio.run(visited())
        assert voice.open == 0

    return run


def put(name, value):
    return f"document.getElementById({json.dumps(name)}).value = {json.dumps(value)}"


def click(name):
    return f"document.getElementById({json.dumps(name)}).click()"


@pytest.mark.slow
def test_the_voice_in_the_box_is_heard_faster_than_real_time(tmp_path):
    bach = load("bach")
    bach.generate(0.1)  # the first time compiles

    async def visited():
        async with opened(f"http://127.0.0.1:{port}/", tmp_path) as page:
            await page.until(READY)
            await page.value(put("seconds", "5"))
            await page.value(click("play"))
            told = await page.until(f"/^Finished/.test({STATUS}) && {STATUS}")
            made, pace, heard = re.match(r"Finished. ([\d.]+) s made, ([\d.]+) x real time; ([\d.]+) s heard", told).groups()
            assert (made, heard) == ("5.0", "5.0")
            assert float(pace) > 1

    with on_air({"bach": bach}) as port:
        asyncio.run(visited())


def test_it_is_heard_seen_and_saved(browse, voice, tmp_path):
    async def visit(page, port):
        await page.until("document.getElementById('temperature').value === '0.9'")  # the voice's own value
        for name, value in (("seconds", "2"), ("seed", "7"), ("temperature", "0.8"), ("top_p", "0.9")):
            await page.value(put(name, value))
        await page.value(click("play"))
        told = await page.until(f"/^Finished/.test({STATUS}) && {STATUS}")
        made, pace, heard = re.match(r"Finished. ([\d.]+) s made, ([\d.]+) x real time; ([\d.]+) s heard", told).groups()
        assert (made, heard) == ("2.0", "2.0")
        assert float(pace) > 1
        wave, wave_colours = await page.value(COLUMNS % '"wave"')
        mel, mel_colours = await page.value(COLUMNS % '"mel"')
        assert (wave, mel) == (120, 120)  # 60 per second, of 133 samples each; a remainder is left
        assert wave_colours >= 1
        assert mel_colours > 10
        # The brightest of 80 bands is the one around 1 kHz.
        brightest = await page.value(BRIGHTEST)
        mels = [2595 * np.log10(1 + hertz / 700) for hertz in (1000, 4000)]
        assert abs(brightest - (mels[0] / mels[1] * 81 - 1)) < 1
        await page.value(click("save"))
        while not (saved := tmp_path / "whistle_seed_7.wav").is_file():
            await asyncio.sleep(0.05)
        audio, rate = soundfile.read(saved)
        assert (rate, len(audio), soundfile.info(saved).subtype) == (8000, 16_000, "PCM_16")
        assert np.abs(audio - np.tile(0.5 * np.sin(2 * np.pi * 1000 * np.arange(400) / 8000), 40)).max() <= 2**-15

    browse(visit)
    assert voice.asked == [{"prompt": None, "seconds": 2, "seed": 7, "temperature": 0.8, "top_p": 0.9}]


def test_a_prompt_from_a_file_is_sent_and_can_be_taken_back(browse, voice, tmp_path):
    prompt = tmp_path / "prompt.wav"
    soundfile.write(prompt, 0.5 * np.sin(np.arange(4000)), 8000)

    async def visit(page, port):
        root = (await page.call("DOM.getDocument"))["root"]["nodeId"]
        field = await page.call("DOM.querySelector", nodeId=root, selector="#file")
        await page.call("DOM.setFileInputFiles", nodeId=field["nodeId"], files=[str(prompt)])
        await page.until("/^Its first/.test(document.getElementById('prompt').textContent)")
        await page.value(put("seconds", "1"))
        for times in (1, 2):
            await page.value(click("play"))
            while len(voice.asked) < times:
                await asyncio.sleep(0.05)
            await page.until(f"/^Finished/.test({STATUS})")
            await page.value(click("clear"))
            await page.until("document.getElementById('prompt').textContent === 'None.'")

    browse(visit)
    heard, nothing = (asked["prompt"] for asked in voice.asked)
    assert nothing is None
    assert len(heard) == 4000


def test_it_fits_into_narrow_and_wide_windows_dark_and_light(browse):
    async def visit(page, port):
        backs = set()
        for width in (420, 1400):
            await page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
            for scheme in ("dark", "light"):
                await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                root = "document.documentElement"
                assert await page.value("innerWidth") == width
                assert await page.value(f"{root}.scrollWidth - {root}.clientWidth") == 0
                backs.add((scheme, await page.value("getComputedStyle(document.body).backgroundColor")))
        assert backs == {("dark", "rgb(20, 23, 27)"), ("light", "rgb(246, 247, 248)")}

    browse(visit)


def test_what_the_server_refuses_is_told_and_what_is_stopped_ends(browse, voice):
    async def visit(page, port):
        await page.value(put("temperature", "-1"))
        await page.value(click("play"))
        await page.until(f"/^temperature must be 0 or more, got -1/.test({STATUS})")
        await page.value(put("temperature", "1"))
        voice.pause = 0.01
        await page.value(put("seconds", "600"))
        await page.until("document.getElementById('play').textContent === 'Play'")
        await page.value(click("play"))
        await page.until(f"/^Playing/.test({STATUS})")
        assert (await asyncio.to_thread(ask, port)).status == 400  # there is no voice "hum"
        assert (await asyncio.to_thread(ask, port, voice="a/whistle")).status == 503
        await page.value(click("play"))
        await page.until(f"/^Stopped/.test({STATUS})")
        while voice.open:
            await asyncio.sleep(0.01)
        assert len(voice.asked) == 1

    browse(visit)


def test_a_prompt_is_recorded(browse, voice):
    async def visit(page, port):
        await page.value(put("seconds", "1"))
        await page.value(click("record"))
        await page.until("document.getElementById('record').textContent === 'End recording'")
        await asyncio.sleep(1.5)
        await page.value(click("record"))
        await page.until("/microphone/.test(document.getElementById('prompt').textContent)")
        await page.value(click("play"))
        await page.until(f"/^Finished/.test({STATUS})")

    browse(visit)
    prompt = voice.asked[0]["prompt"]
    assert 0.5 < len(prompt) / 8000 < 10
    assert np.abs(prompt).max() > 0.01  # Chromium's own beeps
