"""The weights explorer: what stands under each video, and that it plays in step in a real browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from playwright.sync_api import sync_playwright

from reelign.errors import ReelignError
from reelign.evaluation.explorer import Exploration, render_explorer, write_explorer

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def exploration() -> Exploration:
    videos = torch.zeros(6, 4, 3, 32, 32)
    for place in range(6):
        videos[place, :, :, :, 4 * place : 4 * place + 8] = 0.2 + 0.15 * place
    return Exploration(
        prompt="a <red> ring",
        model="small@1",
        seed=7,
        rows=("VQ", (0.0, 1.0)),
        columns=("MQ", (-1.0, 0.0, 0.5)),
        fixed={"TA": 0.2},
        videos=videos,
        rewards={"VQ": torch.arange(6) / 10, "MQ": -torch.arange(6) / 10},
        scores={"overall": torch.arange(6) / 8},
        fps=8.0,
    )


def test_every_combination_has_its_video_and_its_numbers() -> None:
    page = render_explorer(exploration())
    assert "a &lt;red&gt; ring" in page
    assert page.count('src="data:video/mp4;base64,') == 6
    assert re.findall(r'aria-label="(VQ [^"]*)"', page) == [
        f"VQ {one}, MQ {other}" for one in ("0", "1") for other in ("-1", "0", "0.5")
    ]
    cell = page.split("<td>")[5]  # row 1, column 1: the fifth video
    assert re.findall(r"<dd[^>]*>([^<]*)</dd>", cell) == ["+0.40", "-0.40", "0.500"]
    assert "TA 0.2" in page


def test_a_grid_that_lacks_a_video_or_a_place_to_write_it_is_refused(tmp_path: Path) -> None:
    whole = exploration()
    few = Exploration(**{name: getattr(whole, name) for name in whole.__slots__} | {"videos": whole.videos[:5]})
    with pytest.raises(ValueError, match="2 by 3 weights need as many videos, got 5"):
        render_explorer(few)
    (tmp_path / "taken").write_text("")
    with pytest.raises(ReelignError, match="cannot be written"):
        write_explorer(tmp_path / "taken" / "x.html", whole)


def test_the_videos_play_in_step_and_nothing_is_asked_of_a_network(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("This test opens the page in a browser: install one with `apt-get install chromium`.")
    path = tmp_path / "explorer.html"
    write_explorer(path, exploration())
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function("() => document.querySelectorAll('video')[0].currentTime > 0.1")
        page.click("#play")
        page.click("#forward")
        page.wait_for_function("() => [...document.querySelectorAll('video')].every((each) => !each.seeking)")
        times = page.evaluate("() => [...document.querySelectorAll('video')].map((each) => each.currentTime)")
        browser.close()
    assert complaints == []
    assert len(times) == 6
    assert max(times) - min(times) < 0.01
