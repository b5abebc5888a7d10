"""How sure a writer was of a word, from the tokens at its place."""

from __future__ import annotations

import pytest

from reelign.critics.writing import Token, Written, certainty, kept, within


def written(*tokens: tuple[str, dict[str, float]]) -> Written:
    made = tuple(Token(text=text, chances=chances) for text, chances in tokens)
    return Written(text="".join(token.text for token in made), tokens=made)


ANSWER = written(
    ("It", {"It": 1.0}),
    (" is", {" is": 1.0}),
    (" A", {" A": 0.5, " B": 0.2, " the": 0.2, "A": 0.1}),
    (".", {".": 1.0}),
)


def test_certainty_is_the_words_share_of_all_words_that_could_stand_there() -> None:
    assert ANSWER.text.index("A") == 6
    assert certainty(ANSWER, 6, ("a", "b", "tie")) == pytest.approx(0.6 / 0.8)
    assert certainty(ANSWER, 6, ("b", "a", "tie")) == pytest.approx(0.2 / 0.8)


def test_the_beginning_of_a_word_counts_for_it_and_of_two_words_for_none() -> None:
    cut = written((":", {":": 1.0}), (" t", {" t": 0.6, " A": 0.2}), ("ie", {"ie": 1.0}))
    assert certainty(cut, 2, ("tie", "a", "b")) == pytest.approx(0.75)
    assert certainty(cut, 2, ("tie", "two", "a")) is None


def test_nothing_is_known_of_a_writer_that_does_not_tell() -> None:
    assert certainty(Written(text="Verdict: A"), 9, ("a", "b", "tie")) is None
    assert certainty(ANSWER, 6, ("good", "poor")) is None


def test_the_tokens_of_a_part_are_found_and_of_another_text_are_none() -> None:
    assert "".join(token.text for token in within(ANSWER.tokens, " is A")) == " is A"
    assert within(ANSWER.tokens, "s A") == ()
    assert within(ANSWER.tokens, "another") == ()


def test_faint_chances_are_dropped_and_equal_texts_added() -> None:
    assert kept([("a", 0.5), ("b", 0.00001), ("a", 0.25)]) == {"a": 0.75}


def test_an_answer_survives_its_file() -> None:
    assert Written.read(ANSWER.as_dict()) == Written(text=ANSWER.text, tokens=ANSWER.tokens, cached=True)
