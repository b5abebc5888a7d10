"""The script behind the tables of reward gradients: arms that resolve, a learned reward that opens, tables by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmark_scripts import benchmark
from reelign.errors import ReelignError
from reelign.opening import SECTIONS, resolve_section
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.rewards import Reward
from reelign.spriteworld.world import sample_mix


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ...]]:
    with benchmark(
        "reward_gradient_evidence", "reward_gradient_table", "reward_gradient_plot", "small_reward"
    ) as found:
        yield found


def test_every_arm_has_valid_settings(scripts: tuple[ModuleType, ...]) -> None:
    script = scripts[0]
    kinds = {}
    for name, arm in script.ARMS.items():
        own = script.merged(script.SETTINGS["align"], arm.settings)
        further = {"real": "real.csv"} if own.get("data_anchor") else {}
        found = resolve_section("align", [("the script", {**own, **further, "run": name})])
        kinds[name] = type(found).__name__
        if isinstance(found, RewardGradientSettings):
            assert found.watch.every
    assert set(kinds.values()) == {"RewardGradientSettings", "OnlineSettings", "AlignSettings"}
    assert set(script.SETTINGS) <= set(SECTIONS)
    assert {arm.learned for arm in script.ARMS.values() if arm.headline} == {True, False}


def test_the_small_reward_learns_opens_and_has_a_gradient(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    small = scripts[3]
    videos, prompts, *_ = sample_mix(10, torch.Generator().manual_seed(0))
    correlation = small.fit(videos, prompts, torch.linspace(0, 1, 10), tmp_path / "reward.safetensors", steps=2)
    assert -1 <= correlation <= 1
    reward = small.SmallReward(model=str(tmp_path / "reward.safetensors"))
    assert isinstance(reward, Reward)
    leaf = videos[:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reward.score(leaf, prompts[:2])["guess"].sum(), leaf)
    assert bool(gradient.any())


TRUE = "reelign.spriteworld.reward:SpriteReward/overall"


def finished(folder: Path, run: str, *, truth: list[float], training: list[float], name: str) -> None:
    """A run as the stages leave it: a base of 0.5, looks every 20 steps of 8 queries, gains of 0.1 and 0.2."""
    own = folder / "seed-0" / "runs" / run
    (own / "watch").mkdir(parents=True)
    scores = {f"training/{name}": [0.4, 0.6]} | ({} if name == "overall" else {f"held_out/{TRUE}": [0.5, 0.5]})
    (own / "watch" / "base.json").write_text(json.dumps({"scores": scores}))
    lines: list[dict[str, Any]] = []
    for step in range(1, 20 * len(truth) + 1):
        line = {"step": step, "seconds": 3.0, "reward/queries": 8.0 * step}
        if step % 20 == 0:
            place = step // 20 - 1
            line |= {f"watch/training/{name}": training[place], "watch/seconds": 1.0}
            line |= {} if name == "overall" else {f"watch/held_out/{TRUE}": truth[place]}
        lines.append(line)
    (own / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for split, gain in (("held_out", 0.1), ("train", 0.2)):
        result = {
            "comparison": {"prompts": 2, "seeds": 1},
            "base_scores": {"VQ": [0.5, 0.5], "MQ": [0.5, 0.5]},
            "aligned_scores": {"VQ": [0.5 + gain] * 2, "MQ": [0.5 + gain] * 2},
        }
        (own / f"evaluation-{split}.json").write_text(json.dumps(result))


def test_the_tables_say_what_the_runs_left(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    table = scripts[1]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- reward gradients: begin -->\n<!-- reward gradients: end -->\nafter")
    arms = {"k1": ("K = 1", False), "learned": ("learned", True)}
    with pytest.raises(ReelignError, match="holds no evaluated run"):
        table.write_tables(tmp_path, arms, page)
    finished(tmp_path, "k1", truth=[0.0] * 5, training=[0.55, 0.6, 0.65, 0.7, 0.75], name="overall")
    finished(tmp_path, "learned", truth=[0.55, 0.6, 0.4], training=[0.7, 0.9, 1.5], name="guess")
    table.write_tables(tmp_path, arms, page)
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after")
    # 100 steps of 8 videos and 3 s.
    assert "| K = 1 | 1 | 800 | 5.0 | +0.100 [+0.100, +0.100] | +0.200 [+0.200, +0.200] |" in text
    # A look is 160 queries: none within 120, one within 240, three within 480: 0.65 less 0.5; 800 are all.
    assert "| K = 1 | – | +0.050 | +0.150 | +0.200 | – |" in text
    assert "| learned | +1.000 | +0.100 | 2.0 of 3 looks | -0.100 |" in text
    table.write_tables(tmp_path, arms, page)
    assert page.read_text().count("+1.000") == 1


def test_candidates_count_as_queries_and_their_making_as_cost(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    finished(tmp_path, "offline-dpo", truth=[0.0], training=[0.6], name="overall")
    seed = tmp_path / "seed-0"
    own = seed / "runs" / "offline-dpo"
    (own / "metrics.jsonl").write_text('{"step": 1, "seconds": 60.0}\n{"step": 2, "seconds": 60.0}\n')
    (seed / scripts[1].CANDIDATES).write_text('{"judged": 648}')
    costs = [{"stage": "generate", "seconds": 100.0}, {"stage": "judge", "seconds": 20.0}]
    costs += [{"stage": "evaluate", "seconds": 999.0}]
    (seed / "costs.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in costs))
    found = scripts[1].cost([own])
    assert (found.queries, found.seconds) == (648, 240)


def test_a_picture_has_the_looks_and_the_ends(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    finished(tmp_path, "k1", truth=[0.0] * 5, training=[0.55, 0.6, 0.65, 0.7, 0.75], name="overall")
    finished(tmp_path, "learned", truth=[0.55, 0.6, 0.4], training=[0.7, 0.9, 1.5], name="guess")
    looks = scripts[1].looks(tmp_path / "seed-0" / "runs" / "k1")
    assert [look["seconds"] for look in looks] == [60, 120, 180, 240, 300]
    picture = tmp_path / "images" / "gradients.png"
    scripts[2].draw(tmp_path, {"k1": ("K = 1", False), "learned": ("learned", True)}, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
