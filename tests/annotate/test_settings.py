"""What a project may ask: refused settings are named, and planning makes what was asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from annotate.projects import PLAIN, fill
from reelign.annotate import AnnotateSettings
from reelign.annotate.planning import plan, tasks_of
from reelign.config import resolve
from reelign.errors import ReelignError
from reelign.records import Workspace

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scal": "rating"}, ("'scal'", "Did you mean 'scale'?")),
        ({"scale": "stars"}, ("scale = 'stars'", "'pairwise', 'best_of'")),
        ({"dimensions": []}, ("dimensions must be at least one",)),
        ({"dimensions": [{"naem": "VQ"}]}, ("file: there is no key 'dimensions.0.naem'", "Did you mean 'name'?")),
        ({"gold_rate": 0.9}, ("gold_rate is not valid", "together at most 0.5")),
        ({"defect_tags": "required"}, ("defect_tags is required, but defects names none",)),
        ({"defects": [{"tag": "flicker", "dimension": "XQ"}]}, ("'XQ', which is not asked",)),
        ({"gold": [{"videos": ["a", "b"], "answers": {"VQ": "left"}}]}, ("VQ = 'left'",)),
        ({"scale": "rating", "choice": "informative"}, ("goes with the pairwise scale",)),
        ({"reason": False}, ("reason = False", "'none', 'optional'")),
        ({"best_of": 12}, ("best_of must be at most 9",)),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(given: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(ReelignError) as caught:
        resolve(AnnotateSettings, [("file", given)])
    for word in words:
        assert word in str(caught.value)


def test_tokens_are_asked_for_beyond_loopback() -> None:
    assert not AnnotateSettings().asks_tokens
    assert not AnnotateSettings(host="::1").asks_tokens
    assert AnnotateSettings(host="0.0.0.0").asks_tokens
    assert AnnotateSettings(host="judge.example.org").asks_tokens
    assert AnnotateSettings(tokens=True).asks_tokens


@pytest.mark.parametrize(("scale", "count", "videos"), [("pairwise", 6, 2), ("best_of", 1, 4), ("rating", 4, 1)])
def test_each_scale_makes_its_tasks_and_makes_them_once(tmp_path: Path, scale, count, videos) -> None:
    workspace = fill(Workspace.create(tmp_path, model="tiny/wan"), prompts=2, candidates=4)
    settings = AnnotateSettings(**PLAIN, scale=scale)
    assert plan(workspace, settings) == plan(workspace, settings) == 2 * count
    assert {len(task.videos) for task in workspace.tasks()} == {videos}
    assert len(workspace.tasks()) == 2 * count


def test_few_pairs_per_prompt_still_link_all_candidates(tmp_path: Path) -> None:
    workspace = fill(Workspace.create(tmp_path, model="tiny/wan"), prompts=1, candidates=5)
    tasks = list(tasks_of(workspace, AnnotateSettings(**PLAIN, pairs_per_prompt=5)))
    assert {video for task in tasks for video in task.videos} == {f"v1-{index}" for index in range(5)}
    assert len(tasks) == 5


def test_nothing_to_ask_and_unknown_gold_are_refused(tmp_path: Path) -> None:
    workspace = fill(Workspace.create(tmp_path, model="tiny/wan"), prompts=1, candidates=1)
    with pytest.raises(ReelignError, match="No prompt of split 'train' has videos enough"):
        plan(workspace, AnnotateSettings())
    fill(workspace, prompts=2, candidates=2)
    gold = resolve(AnnotateSettings, [("file", {"gold": [{"videos": ["x", "v1-0"], "answers": {"VQ": "a"}}]})])
    with pytest.raises(ReelignError, match="names the video 'x'"):
        plan(workspace, gold)


def test_the_example_in_the_document_is_one() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "annotate.md").read_text(), re.DOTALL)
    full, commented = re.subn(r"^  # (examples|gold)", r"  \1", example, flags=re.MULTILINE)
    assert commented == 2
    given = resolve(AnnotateSettings, [("docs", yaml.safe_load(full)["annotate"])])
    assert given.gold
    assert given.examples
    settings = resolve(AnnotateSettings, [("docs", yaml.safe_load(example)["annotate"])])
    assert settings.names == ["VQ", "TA"]
    assert not settings.gold, "as it stands it names nothing that a new workspace has not"
