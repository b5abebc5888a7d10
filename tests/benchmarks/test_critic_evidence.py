"""The script behind the critics' figures: its settings, its words, and the table it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_scripts import benchmark
from reelign.config import resolve
from reelign.critics.formats import Plain
from reelign.critics.writing import Written
from reelign.errors import ReelignError
from reelign.recipes.critic.settings import CriticSettings


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ...]]:
    with benchmark("critic_evidence", "critic_evidence_table") as found:
        yield found


def test_the_settings_are_valid_and_every_word_of_a_question_is_known(scripts: tuple[ModuleType, ...]) -> None:
    assert resolve(CriticSettings, [("shared", scripts[0].SHARED)]).train == "full"
    made = scripts[0].tokenizer()
    for ask in (scripts[0].pairwise, scripts[0].pointwise):
        for meaning in scripts[0].MEANINGS.values():
            assert made.unk_token_id not in made(ask(meaning, "red square moves left")).input_ids
    # What it writes is read: an end of line stays one.
    answer = made.decode(made("Video A shows red disc\nVideo B shows red ring\nVerdict: tie").input_ids)
    assert Plain().read_pair(Written(text=answer), "TA").verdict == "tie"


def test_what_was_measured_stands_in_the_page(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    table = scripts[1]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- critics: begin -->\nold\n<!-- critics: end -->\nafter\n")
    with pytest.raises(ReelignError, match="holds no measured arm"):
        table.write_table(tmp_path, scripts[0].ARMS, page)

    def own(share: float | None) -> dict[str, object]:
        pairs = {key: {"mean": share} for key in ("without_ties", "consistent", "swapped", "first")}
        answers = {"unanswered": {"mean": 0.0}, "prompts": {"accuracy": {"wrong": {"mean": share}}}}
        clips = {"videos": 5, "three_level": {"mean": share}, "answers": {"unanswered": {"mean": 0.25}}}
        clips["confusion"] = {"good": {"good": 1, "bad": 0}, "normal": {"good": 2, "bad": 1}}
        return {
            "pairs": {name: {**pairs, "pairs": 7, "answers": answers} for name in ("VQ", "MQ", "TA")},
            "videos": dict.fromkeys(("VQ", "MQ", "TA"), clips),
        }

    for seed, share in ((0, 0.5), (1, 0.75)):
        folder = tmp_path / f"seed-{seed}" / "workspace" / "runs" / "verdicts"
        folder.mkdir(parents=True)
        (folder / "critic.json").write_text(json.dumps({"measured": own(share)}))
    table.write_table(tmp_path, scripts[0].ARMS, page)
    text = page.read_text()
    assert "old" not in text
    assert "2 seeds" in text
    assert "7 pairs and 5 clips" in text
    assert "the commonest grade has 75.0 / 75.0 / 75.0 of clips" in text
    assert "| trained on verdicts, both orders | 62.5 / 62.5 / 62.5 |" in text
    assert "| 0.0 / 0.0 / 0.0 | 25.0 / 25.0 / 25.0 | 62.5 |" in text


def test_a_rewards_backbone_learns_further_words_and_keeps_its_own(
    scripts: tuple[ModuleType, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = scripts[0].small_vlm
    old, known = vlm.untrained(seed=3), vlm.tokenizer().get_vocab()
    vlm.save(old, tmp_path)
    monkeypatch.setattr(vlm, "tokenizer", scripts[0].tokenizer)
    new, words = scripts[0].with_words(tmp_path, seed=0), scripts[0].tokenizer().get_vocab()
    before, after = old.state_dict(), new.state_dict()
    table = "model.language_model.embed_tokens.weight"
    assert all(after[table][words[word]].equal(before[table][known[word]]) for word in ("red", "ring", "<|video_pad|>"))
    assert after["lm_head.weight"].equal(after[table])
    assert len(after[table]) >= len(words) > len(known)
    assert new.config.video_token_id == words["<|video_pad|>"]
    others = before.keys() - {table, "lm_head.weight"}
    assert all(after[name].equal(before[name]) for name in others)
