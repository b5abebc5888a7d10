"""The judging page in a real browser, served by the real command: keys, undo, lost network, race, videos in step."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

# Imported once here, and not in the process of every command.
import reelign.annotate.server
import reelign.stages  # noqa: F401
from annotate.projects import film
from cli.process import Command, start
from reelign.records import Workspace

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SETTINGS = """
annotate:
  dimensions: [{name: VQ, question: "Which looks better?"}]
  judges_per_item: 1
  gold_rate: 0
  repeat_rate: 0
  defects: [{tag: flicker}]
"""
WATCH = """async (milliseconds) => {
  const videos = [...document.querySelectorAll(".sides:not([hidden]) video")];
  const lasts = Math.min(...videos.map((video) => video.duration));
  const apart = [];
  let laps = 0, before = 0;
  for (const end = performance.now() + milliseconds; performance.now() < end;) {
    await new Promise((done) => setTimeout(done, 20));
    const times = videos.map((video) => video.currentTime);
    const playing = videos.every((video) => !video.paused && !video.seeking) && Math.max(...times) < lasts;
    if (playing) apart.push(Math.abs(times[0] - times[1]));
    if (times[0] < before) laps += 1;
    before = times[0];
  }
  return { apart: Math.max(...apart), seen: apart.length, laps };
}"""
BEST = """
annotate:
  scale: best_of
  best_of: 5
  judges_per_item: 1
  gold_rate: 0
  repeat_rate: 0
  reason: required
  defects: [{tag: flicker, dimension: MQ}]
  defect_tags: required
"""
TIMES = "[...document.querySelectorAll('.sides:not([hidden]) video')].map((video) => video.currentTime)"

SEEN = """[...document.querySelectorAll(".sides:not([hidden]) figure")]
  .filter((figure) => getComputedStyle(figure).visibility === "visible").length"""
LOWEST = "document.querySelector('.controls').getBoundingClientRect().bottom"
HEIGHT = "document.querySelector('.sides:not([hidden]) video').getBoundingClientRect().height"
NOTICE_AT = "document.getElementById('notice').getBoundingClientRect().top"
SMALL = """[...document.querySelectorAll("button:not([disabled]), .options label")]
  .filter((each) => each.offsetHeight && each.offsetHeight < 44).map((each) => each.textContent)"""


class Project:
    """A workspace with videos, and the server of its page."""

    def __init__(self, folder: Path, running: ExitStack, settings: str = SETTINGS, **films: object) -> None:
        self.root = film(folder / "w", **films)  # type: ignore[arg-type]
        (self.root / "reelign.yaml").write_text(settings)
        self.command: Command = start("annotate", "-w", self.root, "port=0", folder=folder)
        running.callback(self.stop)
        self.command.out.touch()
        self.command.err.touch()
        until = time.monotonic() + 120
        while not (found := re.search(r"judge at +(\S+)", self.command.out.read_text())):
            said = self.command.err.read_text()
            assert "reelign:" not in said, said
            assert time.monotonic() < until
            time.sleep(0.05)
        self.address = found[1]

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.root)

    def join(self, browser: Browser, name: str, **options: object) -> Page:
        """A judge's page, ready to judge; what it complains of fails the test at its end."""
        page = browser.new_page(**options)  # type: ignore[arg-type]
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        page.on("request", lambda request: None if request.url.startswith(self.address) else pytest.fail(request.url))
        page.goto(self.address)
        page.fill("input[name=name]", name)
        page.click("#begin")
        page.click("dialog[open] button")
        until(page, "!document.getElementById('judging').hidden || !document.getElementById('rest').hidden")
        return page

    def stop(self) -> None:
        os.kill(self.command.pid, signal.SIGTERM)
        self.command.wait()


FILMS: dict[str, dict[str, object]] = {
    "twenty": {"prompts": 20},
    "even": {"prompts": 2},
    "mixed": {"prompts": 2, "sizes": ((33, 16.0), (19, 12.0))},
    "last": {"prompts": 1},
    "free": {"prompts": 8},
    "best": {"prompts": 1, "candidates": 5, "settings": BEST},
}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Project]]:
    """All servers, begun before the browser: its event loop would not survive in their forks."""
    with ExitStack() as running:
        made = {}
        for name, films in FILMS.items():
            made[name] = Project(tmp_path_factory.mktemp(name), running, **films)
        yield made


@pytest.fixture(scope="module")
def browser(projects: dict[str, Project]) -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("This test opens the page in a browser: install one with `apt-get install chromium`.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


ENTER_BEHIND_A_DIALOG = """() => {
  const dialog = document.getElementById("keys");
  dialog.showModal();
  const button = dialog.querySelector("button");
  button.focus();
  dialog.close();
  button.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
}"""
"""An Enter that comes before the frame in which the browser takes the focus out of a dialog that was closed."""


def until(page: Page, condition: str, *, within_s: float = 60.0) -> None:
    """Wait for a condition; Playwright's own wait polls with `eval`, which the page's policy forbids."""
    end = time.monotonic() + within_s
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"it never came to this: {condition}\n{page.inner_text('body')}"
        page.wait_for_timeout(50)


def answered(count: int) -> str:
    """So many answers are made, and the server has them."""
    made = f"document.getElementById('progress').textContent.startsWith('{count} answered')"
    return f"{made} && localStorage.getItem('reelign-outbox') === '[]'"


def test_twenty_pairs_by_keyboard_with_an_undo_and_a_lost_network(
    browser: Browser, projects: dict[str, Project]
) -> None:
    project = projects["twenty"]
    page = project.join(browser, "Ada")
    prompts = []
    for number in range(20):
        prompts.append(page.inner_text("#prompt"))
        if number == 7:
            page.context.set_offline(True)
        page.keyboard.press("12345"[number % 5])
        page.keyboard.press("Enter")
        if number == 7:
            until(page, "!document.getElementById('notice').hidden")
            assert "kept here" in page.inner_text("#notice")
            page.context.set_offline(False)
        until(page, answered(number + 1))
        if number == 12:
            page.keyboard.press("u")
            until(page, answered(number))
            assert page.inner_text("#prompt") == prompts[-1]
            assert page.is_checked("input[data-key='3']"), "what was answered is still there to be changed"
            page.keyboard.press("1")
            page.keyboard.press("Enter")
            until(page, answered(number + 1))
    until(page, "!document.getElementById('rest').hidden")
    assert len(set(prompts)) == 20
    made = project.workspace.judgements()
    assert len(made) == 20
    assert len({each.task for each in made}) == 20
    assert len(project.workspace.judgements(history=True)) == 22
    page.close()


@pytest.mark.parametrize("name", ["even", "mixed"])
def test_videos_stay_in_step_by_the_pages_own_clocks(browser: Browser, projects: dict[str, Project], name: str) -> None:
    project = projects[name]
    rates = sorted({video.fps for video in project.workspace.videos()})
    page = project.join(browser, "Ada")
    until(page, f"({TIMES})[0] > 0.1")
    page.evaluate(WATCH, 1000)  # the first lap, while the browser is still busy with itself
    seen = page.evaluate(WATCH, 4500)
    assert seen["laps"] >= 1
    assert seen["seen"] > 20
    assert seen["apart"] <= 1 / rates[-1], seen

    page.keyboard.press("Space")
    page.keyboard.press(".")
    until(page, f"({TIMES}).every((time, _, all) => Math.abs(time - all[0]) < 1e-3 || time > 1.4)")
    before = page.evaluate(TIMES)
    page.keyboard.press(".")
    page.wait_for_timeout(300)
    moved = max(after - time for time, after in zip(before, page.evaluate(TIMES), strict=True))
    assert moved == pytest.approx(1 / rates[-1], abs=1e-3)
    page.close()


def test_two_judges_race_for_the_last_item(browser: Browser, projects: dict[str, Project]) -> None:
    project = projects["last"]
    pages = [project.join(browser, name) for name in ("Ada", "Ben")]
    (first,) = (page for page in pages if page.is_visible("#judging"))
    (second,) = (page for page in pages if page.is_visible("#rest"))
    assert "Nothing left for now" in second.inner_text("#rest")
    first.keyboard.press("5")
    first.keyboard.press("Enter")
    until(first, answered(1))
    assert len(project.workspace.judgements()) == 1
    for page in pages:
        page.close()


def test_controls_reasons_and_defects(browser: Browser, projects: dict[str, Project]) -> None:
    project = projects["free"]
    page = project.join(browser, "Ada")
    until(page, f"({TIMES})[0] > 0.1")
    page.keyboard.press("b")
    assert page.evaluate(SEEN) == 1
    assert page.inner_text("figure.front figcaption").startswith("A")
    page.keyboard.press("x")
    assert page.inner_text("figure.front figcaption").startswith("B")
    page.keyboard.press("b")
    page.keyboard.press("-")
    assert page.input_value("#speed") == "0.5"
    page.keyboard.press("Space")
    # The button is drawn with the next frame.
    until(page, "document.getElementById('play').textContent.startsWith('Play')")
    page.keyboard.press("d")
    page.keyboard.press(".")
    page.keyboard.press("d")
    page.keyboard.press("r")
    page.keyboard.type("blinks 1 time")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('dialog[open]')")
    page.keyboard.press("4")
    page.evaluate(ENTER_BEHIND_A_DIALOG)
    until(page, answered(1))
    assert page.input_value("#speed") == "0.5", "the speed is kept from one question to the next"
    (made,) = project.workspace.judgements(judge="Ada")
    assert (made.reason, made.strength) == ("blinks 1 time", "slightly")
    assert made.defects is not None
    assert made.defects[0]["tag"] == "flicker"
    assert made.defects[0]["end_s"] > made.defects[0]["start_s"]
    assert made.duration_s is not None
    page.uncheck("#use-keys")
    page.keyboard.press("1")
    assert not page.is_checked("input[data-key='1']")
    page.close()


def test_the_best_of_five_with_all_that_is_required_on_the_whole_screen(
    browser: Browser, projects: dict[str, Project]
) -> None:
    project = projects["best"]
    page = project.join(browser, "Ada", viewport={"width": 1280, "height": 800})
    assert page.inner_text(".dimension.now legend").startswith("Which looks best?")
    assert page.evaluate(LOWEST) < 800, "all five and their controls are seen without scrolling"
    before = page.evaluate(HEIGHT)
    page.keyboard.press("f")
    until(page, "document.fullscreenElement !== null")
    assert page.evaluate(HEIGHT) > 1.3 * before
    page.keyboard.press("2")
    assert page.inner_text(".dimension.now legend").startswith("Which moves best?")
    for key, told in (
        ("30", ""),
        ("Enter", "a few words"),
        ("because", ""),
        ("Escape", ""),
        ("Enter", "Mark a defect"),
    ):
        page.keyboard.press(key) if key in ("Enter", "Escape") else page.keyboard.type(key)
        until(page, f"document.getElementById('notice').textContent.includes('{told}')")
        assert not told or page.evaluate(NOTICE_AT) >= 0, "what is lacking is said where it is seen"
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.keyboard.press("Enter")
    until(page, answered(1))
    made = {each.dimension: each for each in project.workspace.judgements()}
    assert {name: each.verdict for name, each in made.items()} == {"VQ": "1", "MQ": "2", "TA": "cannot_say"}
    assert made["MQ"].defects is not None
    assert made["MQ"].defects[0]["tag"] == "flicker"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_with_touch_and_without_motion(browser: Browser, projects: dict[str, Project], scheme: str) -> None:
    project = projects["free"]
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "color_scheme": scheme}
    page = project.join(browser, scheme, **phone, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.wait_for_timeout(500)
    assert page.evaluate(f"({TIMES}).every((time) => time < 0.2)")
    assert page.evaluate(SMALL) == []
    assert page.evaluate(CONTRAST) == []
    page.tap("input[data-key='2']")
    page.tap("#submit")
    until(page, answered(1))
    page.goto(f"{project.address}/admin")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(CONTRAST) == []
    page.close()


# The ratio of WCAG 2 between each text and the first opaque colour behind it.
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.offsetParent || e.closest(":disabled")) continue;
    const [one, other] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push(`${e.tagName} ${e.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
