"""Prompts made of words, by the template, by a server and by a model here: balanced, new, and what is dropped told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, Qwen2Config, Qwen2ForCausalLM

from cli.process import reelign
from critics.chat import Question, chatting
from reelign.critics.local_text import TextWriter
from reelign.critics.server import ServerSettings, ServerWriter
from reelign.critics.writing import Refused, Sampling
from reelign.errors import ReelignError
from reelign.prompting import prompts
from reelign.recipes.prompts.filters import Embedded, Overlap, fault
from reelign.recipes.prompts.making import Made, make_prompts
from reelign.recipes.prompts.settings import PromptSettings, WriterSettings
from reelign.recipes.prompts.words import load_words, read_words
from reelign.records import Workspace
from rewards.tiny_qwen import SPARE_ROWS, tokenizer

COLOURS, MOTIONS = ["red", "blue", "green", "white"], ["falls", "grows", "turns around"]
TABLE = {
    "template": "a {colour} {thing} {motion}",
    "attributes": {"colour": COLOURS, "motion": MOTIONS},
    "categories": {
        "toys": {"thing": ["ball", "kite"]},
        "pets": {"thing": ["cat", "dog"]},
        "one": {"template": "{colour}"},
    },
}


def made(taken: Mapping[str, str] | None = None, **settings: object) -> Made:
    words = read_words(TABLE, "here")
    wanted = PromptSettings(**{"overlap": 1.0, "categories": ("toys", "pets"), **settings})  # type: ignore[arg-type]
    return make_prompts(wanted, words, taken=taken)


def test_categories_are_balanced_and_nothing_comes_twice() -> None:
    found = made(count=9)
    texts = [prompt.text for prompt in found.prompts]
    assert found.by_category == {"toys": 5, "pets": 4}
    assert len(set(texts)) == 9
    assert not found.dropped
    assert found.prompts == made(count=9).prompts
    assert texts != [prompt.text for prompt in made(count=9, seed=1).prompts]


def test_a_category_gives_all_its_words_and_then_stays_short() -> None:
    found = made(count=60, tries=50)
    assert found.by_category == {"toys": 24, "pets": 24}
    assert found.short == {"toys": 6, "pets": 6}
    every = {f"a {c} {t} {m}" for c, t, m in product(COLOURS, ("ball", "kite", "cat", "dog"), MOTIONS)}
    assert {prompt.text for prompt in found.prompts} == every


def test_what_is_dropped_is_told_by_its_reason() -> None:
    taken = {"A red ball falls.": "train", "a blue ball falls": "held_out"}
    found = made(taken, count=40, tries=50, forbidden=("turns around", "all"), categories=("toys",))
    assert found.dropped == {"holds 'turns around'": 8, "already there": 1, "stands in the split held_out": 1}
    assert len(found.prompts) == 14
    assert made(count=2, categories=("one",)).dropped == {"too short": 4}
    assert made(count=2, max_words=3, categories=("toys",), tries=99).dropped == {"too long": 24}


def test_near_doubles_are_dropped() -> None:
    found = made(count=24, tries=50, overlap=0.3, ngram=2, categories=("toys",))
    assert found.dropped["nearly the words of another"] + len(found.prompts) == 24
    for one, other in product(found.prompts, found.prompts):
        assert one is other or len(set(one.text.split()) & set(other.text.split())) < 4


def test_overlap_is_intersection_over_union_of_runs() -> None:
    known = Overlap(["a red ball falls down", "cat"], ngram=2, most=0.5)
    assert known.nearest("A red ball, falls up!") == pytest.approx(3 / 5)
    assert known.holds("a red ball falls up")
    assert known.nearest("cat") == 1.0
    assert known.nearest("nothing of all that") == 0.0


def test_words_count_whatever_their_marks() -> None:
    wanted = {"min_words": 3, "max_words": 4, "forbidden": ["art", "the moon"]}
    assert fault("A party's on.", **wanted) == ""  # type: ignore[arg-type]
    assert fault("Art, on walls", **wanted) == "holds 'art'"  # type: ignore[arg-type]
    assert fault("see The  Moon!", **wanted) == "holds 'the moon'"  # type: ignore[arg-type]
    assert (fault("- a b -", **wanted), fault("a b c d e", **wanted)) == ("too short", "too long")  # type: ignore[arg-type]


def test_a_server_writes_sentences_and_what_it_garbles_is_dropped() -> None:
    def writes(question: Question) -> str:
        words = [line.partition(": ")[2] for line in question.text.splitlines() if line.startswith("- ")]
        if "kite" in words:
            return "Sorry."
        return f'<think>Prompt: no.</think>\n**Prompt:** "Slowly, a {" ".join(words)}."'

    with chatting(writes, faults=[(400, {}, "policy")]) as server:
        writer = ServerWriter(ServerSettings(url=server.url, concurrency=1))
        wanted = PromptSettings(count=6, categories=("toys",), overlap=1.0)
        found = make_prompts(wanted, read_words(TABLE, "here"), writer=writer)
    assert len(found.prompts) == 6
    for prompt in found.prompts:
        assert prompt.text == f"Slowly, {prompt.draft}."
        assert "ball" in prompt.draft
    assert found.dropped["refused"] == 1
    assert found.dropped["unparseable answer"] == found.tally.counts["unparseable"] > 0
    assert found.tally.counts["asked"] == found.drafts


def save_writer(folder: Path) -> Path:
    words = tokenizer()
    words.chat_template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}<|im_start|>"
    config = Qwen2Config(
        vocab_size=len(words) + SPARE_ROWS,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_a_model_here_writes_and_says_nothing_clear_at_random(tmp_path: Path) -> None:
    writer = TextWriter.load(str(save_writer(tmp_path)))
    wanted = PromptSettings(count=2, categories=("toys",), tries=1, writer=WriterSettings(max_tokens=4))
    found = make_prompts(wanted, read_words(TABLE, "here"), writer=writer)
    assert found.prompts == []
    assert found.dropped == {"unparseable answer": 2}
    assert found.short == {"toys": 2}
    with pytest.raises(Refused, match="special token"):
        writer.write(["<|im_end|>"], Sampling())


def test_prompts_of_one_meaning_are_dropped(tmp_path: Path) -> None:
    words = tokenizer()
    words.save_pretrained(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        BertModel(config).eval().save_pretrained(tmp_path)
    known = Embedded(["a red ball"], source=str(tmp_path), most=0.999)
    assert known.direction("a red ball").norm() == pytest.approx(1.0)
    assert known.holds("a red ball")
    assert not known.holds("Nothing of all that, 123!")
    found = made({"a red ball falls": "train"}, count=3, categories=("toys",), embedding=str(tmp_path), similarity=0.01)
    assert found.dropped["nearly the meaning of another"] > 0


def test_a_workspace_gets_new_prompts_with_their_record(tmp_path: Path, tiny_wan_folder: Path) -> None:
    workspace = Workspace.create(tmp_path / "work", model=str(tiny_wan_folder))
    first = prompts(workspace.root, count=7, seed=2)
    again = prompts(workspace.root, count=7, seed=2)
    texts = [prompt.text for prompt in workspace.prompts("train")]
    assert texts == [prompt.text for prompt in (*first.prompts, *again.prompts)]
    assert len(set(texts)) == 14
    assert again.dropped["already there"] == 7
    lines = (workspace.root / "prompts" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts
    categories = {each.name for each in load_words("everyday")}
    assert {json.loads(line)["category"] for line in lines} == categories


def test_the_command_writes_a_file_and_needs_a_place(tmp_path: Path) -> None:
    words = tmp_path / "words.yaml"
    words.write_text(json.dumps(TABLE))
    result = reelign(
        "prompts", "--out", "new.txt", "count=4", f"words={words}", "categories=[pets, one]", folder=tmp_path
    )
    assert result.code == 0, result.err
    assert len((tmp_path / "new.txt").read_text().splitlines()) == 2
    assert "2 prompts of 6 drafts: 2 pets" in result.out
    assert "dropped: 4 x too short" in result.out
    assert "short: one lacks 2" in result.out
    refused = reelign("prompts", folder=tmp_path)
    assert (refused.code, "no place to put them" in refused.err) == (2, True)
    with pytest.raises(ReelignError, match="no category 'cars'"):
        prompts(out=tmp_path / "x.txt", categories=["cars"])
