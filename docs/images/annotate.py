"""Take the pictures of docs/annotate.md anew: the small world's videos, its simulated people, the page in a browser.

    python docs/images/annotate.py

Needs the packages of `reelign[dev]` and Debian's chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))

from annotate_load import Client, ServerProcess  # noqa: E402

from reelign.diffusion.seeds import generator_from  # noqa: E402
from reelign.generators import resolve_model  # noqa: E402
from reelign.records import Workspace  # noqa: E402
from reelign.spriteworld.people import Person  # noqa: E402
from reelign.video import read_video  # noqa: E402

PROMPTS, CANDIDATES = 10, 3
SETTINGS = """
annotate:
  title: Which clip would you keep?
  instructions: |
    Watch both clips to the end. Judge each question by itself.

    When in doubt, step through the frames.
  dimensions:
    - {name: VQ, help: "Sharpness, colour, clean shapes."}
    - {name: TA, help: "What the text asks for is there."}
  repeat_rate: 0.15
  judgements_per_judge: 40
  defects: [{tag: flicker, dimension: VQ}, {tag: missing object, dimension: TA}]
"""
OPTIONS = {"a": "left_clearly", "tie": "same", "b": "right_clearly"}
ANSWERS = {"Ada": 30, "Ben": 24, "Chen": 20, "Dana": 8}
CAREFUL = {"Ada": 24.0, "Ben": 16.0, "Chen": 12.0, "Dana": 1.0}
"""How sharply each of the simulated people sees (`Person.sharpness`)."""


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("The pictures are taken in a browser: install one with `apt-get install chromium`.")
    with tempfile.TemporaryDirectory() as folder:
        root = _workspace(Path(folder))
        server = ServerProcess(root)
        try:
            for name, count in ANSWERS.items():
                _judge(server.address, Workspace.open(root), name, count)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                _pictures(browser, server.address)
                browser.close()
        finally:
            server.stop()


def _workspace(folder: Path) -> Path:
    prompts = (Path(resolve_model("spriteworld")) / "prompts" / "train.txt").read_text().splitlines()
    (folder / "train.txt").write_text("\n".join(prompts[:: len(prompts) // PROMPTS][:PROMPTS]))
    command = str(Path(sys.executable).parent / "reelign")
    subprocess.run([command, "init", "w", "--prompts", "train.txt"], cwd=folder, check=True)
    with (folder / "w" / "reelign.yaml").open("a") as file:
        file.write(SETTINGS)
    subprocess.run([command, "generate", "-w", "w", f"candidates={CANDIDATES}"], cwd=folder, check=True)
    return folder / "w"


def _judge(address: str, workspace: Workspace, name: str, count: int) -> None:
    person = Person(name=name, sharpness=CAREFUL[name], dimensions=("VQ", "TA"))
    videos = {each.id: read_video(workspace.video_path(each)).frames[None] for each in workspace.videos("train")}
    client = Client(address, name)
    work: dict[str, Any] = client.call("/api/work", {})
    for number in range(count):
        if not work["questions"]:
            return
        question = work["questions"][0]
        shown = [video["id"] for video in question["videos"]]
        chance = generator_from(1, name, *shown)
        (said,) = person.compare(*(videos[each] for each in shown), [question["prompt"]], generator=chance)
        answer = {
            "showing": question["showing"],
            "revision": question["revision"],
            "answers": {dimension: OPTIONS[verdict] for dimension, verdict in said.items()},
            "duration_s": 5 + 3 * CAREFUL[name] / 12 + number % 4,
        }
        work = client.call("/api/answer", answer)


def _pictures(browser: Browser, address: str) -> None:
    page = _join(browser, address, "Emil", viewport={"width": 1200, "height": 860})
    page.keyboard.press("2")
    page.screenshot(path=HERE / "annotate-judge.png", full_page=True)
    phone = {"viewport": {"width": 360, "height": 780}, "device_scale_factor": 1.5, "has_touch": True}
    page = _join(browser, address, "Fay", **phone)
    page.screenshot(path=HERE / "annotate-phone.png")
    page = browser.new_page(viewport={"width": 1200, "height": 860})
    page.goto(f"{address}/admin")
    page.screenshot(path=HERE / "annotate-overview.png", full_page=True)


def _join(browser: Browser, address: str, name: str, **options: Any) -> Page:
    """A judge's page with its videos paused in the middle."""
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)
    page.goto(address)
    page.fill("input[name=name]", name)
    page.click("#begin")
    page.click("dialog[open] button")
    page.wait_for_selector("#judging:not([hidden])")
    page.wait_for_timeout(2000)
    page.keyboard.press("Space")
    for _ in range(3):
        page.keyboard.press(".")
    page.wait_for_timeout(500)
    return page


if __name__ == "__main__":
    main()
