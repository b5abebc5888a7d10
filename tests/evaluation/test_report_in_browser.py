"""The page in a real browser: the videos play, pairs keep step, the buttons move all, nothing is asked of a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from reelign.evaluation import Report, write_report

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

WATCH = """async (milliseconds) => {
  const videos = [...document.querySelectorAll("video")];
  const seen = { apart: 0, laps: 0, advanced: 0 };
  let last = videos[0].currentTime;
  for (const end = performance.now() + milliseconds; performance.now() < end;) {
    await new Promise((done) => setTimeout(done, 20));
    const times = videos.map((video) => video.currentTime);
    seen.apart = Math.max(seen.apart, Math.max(...times) - Math.min(...times));
    if (times[0] < last) seen.laps += 1; else seen.advanced += times[0] - last;
    last = times[0];
  }
  return seen;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("This test opens the report in a browser: install one with `apt-get install chromium`.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Browser, report: Report, folder: Path, **settings: object) -> tuple[Page, list[str]]:
    """The page opened from a file, and a list that gathers its complaints and the addresses it asks for."""
    path = folder / "report.html"
    write_report(path, report)
    page = browser.new_page(**settings)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if _local(request.url) else complaints.append(request.url))
    page.goto(path.as_uri())
    return page, complaints


def until(page: Page, condition: str) -> None:
    """Wait for a condition; Playwright's own wait polls with `eval`, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"Ten seconds went by without: {condition}")


def _local(address: str) -> bool:
    return address.startswith(("file:", "data:"))


def test_videos_play_in_step_and_buttons_move_all(browser, report, tmp_path):
    page, complaints = opened(browser, report, tmp_path)
    until(page, "document.querySelector('video').currentTime > 0.1")
    assert page.evaluate("[...document.querySelectorAll('video')].map(v => v.videoWidth)") == [128] * 6
    seen = page.evaluate(WATCH, 3000)
    assert seen["laps"] >= 1
    assert seen["advanced"] > 1.5
    assert seen["apart"] <= 1 / report.fps

    page.click("#forward")
    times = page.evaluate("[...document.querySelectorAll('video')].map(v => v.currentTime)")
    assert len(set(times)) == 1
    assert page.inner_text("#play") == "Play"
    page.click("#forward")
    after = page.evaluate("[...document.querySelectorAll('video')].map(v => v.currentTime)")
    frames, fps = 17, report.fps
    assert {round(time * fps - 0.5) for time in after} == {(round(times[0] * fps - 0.5) + 1) % frames}
    page.click("#back")
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(times[0])

    page.select_option("#speed", "0.25")
    page.click("#play")
    slow = page.evaluate(WATCH, 800)
    assert 0.05 < slow["advanced"] < 0.5
    assert slow["apart"] <= 1 / fps
    assert complaints == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_needs_no_sideways_scrolling(browser, report, tmp_path, scheme):
    page, complaints = opened(
        browser, report, tmp_path, viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(background.removeprefix("rgb(").split(",")[0]) < 64) == (scheme == "dark")
    until(page, "document.getElementById('play').textContent === 'Play'")
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")
    assert complaints == []
    page.close()
