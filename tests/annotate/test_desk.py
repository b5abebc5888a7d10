"""Who is asked what: k judges an item, nobody twice, leases, races, corrections, gold and repeats."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from annotate.projects import desk_of, says, work_off
from reelign.annotate import Dimension, Gold
from reelign.annotate.admin_routes import change_judge
from reelign.annotate.desk import Conflict, Desk
from reelign.annotate.figures import count_figures
from reelign.annotate.overview import Overview, overview
from reelign.errors import ReelignError
from reelign.records import Showing, Workspace, majority


def pairs(seen: list[tuple[str, ...]]) -> list[frozenset[str]]:
    return [frozenset(each) for each in seen]


def look(desk: Desk) -> Overview:
    """At the overview."""
    return overview(desk.workspace, desk.settings, count_figures(desk.workspace, desk.settings))


def let_time_pass(desk: Desk) -> None:
    """All that is held is held for too long now."""
    with desk.writing() as session:
        session.execute(update(Showing).values(until=datetime.now(UTC) - timedelta(seconds=1)))


def test_every_item_gets_its_judges_and_nobody_sees_one_twice(everywhere: Workspace) -> None:
    desk = desk_of(everywhere, "ann", "bob", "cem", "dee", judges_per_item=3)
    seen = {judge: pairs(work_off(desk, judge)) for judge in ("ann", "bob", "cem", "dee")}
    assert [len(each) for each in seen.values()] == [12, 12, 12, 0]
    assert all(len(set(each)) == len(each) for each in seen.values())
    assert set(Counter(pair for each in seen.values() for pair in each).values()) == {3}
    assert {vote.count for vote in majority(everywhere.judgements())} == {3}
    assert look(desk).covered == [0, 0, 0, 12]


def test_the_least_covered_come_first(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob", judgements_per_judge=5)
    ann, bob = (pairs(work_off(desk, judge)) for judge in ("ann", "bob"))
    assert len(ann) == len(bob) == 5
    assert not set(ann) & set(bob)
    assert desk.work("ann").stopped


def test_sides_are_drawn_and_stored_and_the_answer_is_to_what_was_shown(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob")
    shown = [*work_off(desk, "ann", "left_slightly"), *work_off(desk, "bob", "left_slightly")]
    made = filled.judgements()
    assert Counter(each.shown_left for each in made).keys() == {"a", "b"}
    for (left, right), judgement in zip(shown, made, strict=True):
        assert {judgement.video_a, judgement.video_b} == {left, right}
        assert {"a": judgement.video_a, "b": judgement.video_b}[judgement.verdict] == left
        assert {"a": judgement.video_a, "b": judgement.video_b}[judgement.shown_left] == left
        assert judgement.strength == "slightly"


def test_an_answer_sent_twice_is_recorded_once(filled: Workspace) -> None:
    desk = desk_of(filled, "ann")
    first = desk.work("ann").questions[0]
    one = desk.answer("ann", says(desk, first))
    assert desk.answer("ann", says(desk, first, "same")) == one
    assert [each.verdict for each in filled.judgements()] != ["tie"]
    assert len(filled.judgements(history=True)) == 1


def test_undo_is_a_row_and_the_question_comes_back(everywhere: Workspace) -> None:
    desk = desk_of(everywhere, "ann")
    first, second = desk.work("ann").questions
    desk.answer("ann", says(desk, first))
    work = desk.answer("ann", says(desk, second))
    assert work.last == (second.showing, 0)
    back = desk.undo("ann", *work.last)
    assert desk.undo("ann", *work.last) == back, "asked twice, done once"
    assert (back.questions[0].showing, back.questions[0].revision, back.done) == (second.showing, 1, 1)
    assert back.last == (first.showing, 0)
    assert [each.verdict for each in everywhere.judgements(history=True)][-1] == "withdrawn"
    with pytest.raises(Conflict, match="another window"):
        desk.answer("ann", says(desk, second))
    desk.answer("ann", says(desk, back.questions[0], "same"))
    assert [each.verdict for each in everywhere.judgements()][-1] == "tie"
    assert len(everywhere.judgements(history=True)) == 4
    with pytest.raises(Conflict, match="latest"):
        desk.undo("ann", first.showing, 0)


def test_two_judges_race_for_the_last_item(everywhere: Workspace) -> None:
    desk = desk_of(everywhere, "ann", "bob", "cem", judges_per_item=1, pairs_per_prompt=1, judgements_per_judge=3)
    work_off(desk, "cem")
    found: dict[str, int] = {}
    start = threading.Barrier(2)

    def ask(judge: str) -> None:
        start.wait()
        found[judge] = len(desk.work(judge).questions)

    threads = [threading.Thread(target=ask, args=(judge,)) for judge in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found.values()) == [0, 1]


def test_a_lease_ends_and_the_item_goes_to_another(everywhere: Workspace) -> None:
    desk = desk_of(everywhere, "ann", "bob", judges_per_item=1, pairs_per_prompt=1)
    held = desk.work("ann").questions
    assert len(work_off(desk, "bob")) == 2
    let_time_pass(desk)
    assert len(work_off(desk, "bob")) == 2
    assert len(everywhere.judgements()) == 4
    with pytest.raises(Conflict, match="went to someone else"):
        desk.answer("ann", says(desk, held[0]))
    assert desk.work("ann").questions == ()


def test_a_late_answer_counts_while_nobody_was_asked_instead(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob", judges_per_item=1)
    held = desk.work("ann").questions[0]
    desk.work("bob")
    let_time_pass(desk)
    desk.work("bob")  # keeps what bob holds, and takes back what ann held
    with filled.reading() as session:
        assert session.get_one(Showing, held.showing).state == "expired"
    desk.answer("ann", says(desk, held))
    assert len(filled.judgements()) == 1


def test_gold_and_repeats_come_at_their_rate_and_cover_nothing(everywhere: Workspace) -> None:
    gold = (Gold(videos=("v1-0", "v1-1"), answers={"VQ": "a"}), Gold(videos=("v2-0", "v2-1"), answers={"VQ": "b"}))
    desk = desk_of(everywhere, "ann", gold=gold, gold_rate=0.25, repeat_rate=0.25)
    seen = work_off(desk, "ann")
    assert len(seen) > 12
    shown = look(desk)
    assert shown.covered == [0, 12, 0, 0]
    (ann,) = shown.people
    assert ann.statistics is not None
    assert ann.statistics.gold.of == 2
    assert ann.repeats.of == len(seen) - 12 - 2
    assert ann.answered == len(seen)


def test_a_paused_judge_gets_nothing_and_what_was_held_is_free(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob", judges_per_item=1)
    first = desk.work("ann").questions[0]
    desk.answer("ann", says(desk, first))
    change_judge(desk, "ann", "pause")
    assert desk.work("ann").stopped
    assert len(work_off(desk, "bob")) == 11
    change_judge(desk, "ann", "resume")
    assert not desk.work("ann").stopped
    assert len(filled.judgements()) == 12


def test_what_an_excluded_judge_answered_is_asked_again(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob", judges_per_item=1)
    work_off(desk, "ann")
    assert desk.work("bob").questions == ()
    change_judge(desk, "ann", "exclude")
    assert len(work_off(desk, "bob")) == 12
    assert {each.judge for each in filled.judgements()} == {"bob"}
    assert len(filled.judgements(history=True)) == 24


def test_the_informative_choice_looks_at_what_was_said(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob", "cem", choice="informative", judges_per_item=3)
    seen = pairs(work_off(desk, "ann"))
    assert len(set(seen)) == 12
    # One pair of a prompt makes the two others of the same prompt less uncertain than those of untouched prompts.
    assert len({next(iter(pair)).split("-")[0] for pair in seen[:4]}) == 4


def test_skipped_items_go_to_others(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob", judges_per_item=1)
    question = desk.work("ann").questions[0]
    work = desk.skip("ann", question.showing, "does not play")
    assert question.showing not in [each.showing for each in work.questions]
    assert len(work_off(desk, "ann")) == 11
    assert len(work_off(desk, "bob")) == 1


def test_another_judges_question_is_refused(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob")
    question = desk.work("ann").questions[0]
    with pytest.raises(Conflict, match="not yours"):
        desk.answer("bob", says(desk, question))
    with pytest.raises(ReelignError, match="none of those offered"):
        desk.answer("ann", says(desk, question, "left"))


def test_what_is_no_longer_asked_is_put_away(filled: Workspace) -> None:
    desk = desk_of(filled, "ann")
    first, second = desk.work("ann").questions
    desk.answer("ann", says(desk, first))
    again = desk_of(filled, "ann", dimensions=(Dimension(name="MQ"),))
    work = again.work("ann")
    assert second.showing not in [each.showing for each in work.questions]
    with pytest.raises(Conflict, match="no longer asked"):
        again.undo("ann", first.showing, 0)
    with pytest.raises(Conflict, match="no longer asked"):
        again.answer("ann", says(again, second))
    assert len(work_off(again, "ann")) == 12


def test_a_restart_goes_on_where_it_was(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", judges_per_item=2)
    question = desk.work("ann").questions[0]
    desk.answer("ann", says(desk, question))
    again = desk_of(Workspace.open(filled.root), "ann", judges_per_item=2)
    work = again.work("ann")
    assert work.done == 1
    assert len(work_off(again, "ann")) == 11
