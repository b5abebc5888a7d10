"""UnifiedReward's three formats: the first one, 2.0, and Think (arXiv:2503.05236, 2505.03318)."""

from __future__ import annotations

import re

from reelign.critics.base import Comparison, Rating
from reelign.critics.formats import Format, graded, unread, unread_pair
from reelign.critics.frames import Part, Shown
from reelign.critics.parsing import behind_thought
from reelign.critics.unifiedreward_questions import RANK, RANK_2, SCORE, SCORE_2, THINK
from reelign.critics.writing import Written, certainty
from reelign.errors import ReelignError
from reelign.records import Verdict

BETTER = re.compile(r"\b(?:video (?P<side>[12]) is better|(?P<tie>both videos are equally good))\b", re.IGNORECASE)
ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL | re.IGNORECASE)
SIDES: dict[str, Verdict] = {"1": "a", "2": "b"}
NUMBER = r"([0-9]+(?:\.[0-9]+)?)(?![\d.]*\d)"
SCALES = {
    "VQ": ("visual quality", 4),
    "temporal_consistency": ("temporal consistency", 4),
    "dynamic_degree": ("dynamic degree", 4),
    "TA": ("text-to-video alignment", 4),
    "factual_consistency": ("factual consistency", 4),
    "overall": ("Final Score", 10),
}
"""Of the first format: dimension -> its label, and the best score; the worst is 1."""
PAIRS = {"TA": "Alignment", "coherence": "Coherence", "style": "Style"}
SINGLES = {"TA": "Alignment", "physics": "Physics", "style": "Style"}
"""Of 2.0: dimension -> its label."""
SUM_ERROR = 0.011
"""Two shares may miss 1 by a rounding to hundredths."""


class UnifiedReward(Format):
    """The first one: which video is better overall, or five aspects of 1 to 4 and a final score of 1 to 10."""

    name = "unifiedreward"
    compares = ("overall",)
    rates = tuple(SCALES)
    frames, pair_frames = 8, 8

    def pair_question(self, a: Shown, b: Shown, prompt: str, dimension: str) -> list[Part]:
        return [a, b, RANK.replace("{prompt}", prompt)]

    def read_pair(self, written: Written, dimension: str) -> Comparison:
        return _better(written, written.text, 0)

    def question(self, video: Shown, prompt: str, dimension: str) -> list[Part]:
        return [video, SCORE.replace("{prompt}", prompt)]

    def read(self, written: Written, dimension: str) -> Rating:
        label, best = SCALES[dimension]
        return _score(written, rf"{re.escape(label)}\s*:\s*", 1, best)


class UnifiedReward2(Format):
    """2.0: two videos share 1 on each of three aspects; a video by itself gets 1 to 5 on three aspects."""

    name = "unifiedreward-2"
    spread = "starts"
    frames, pair_frames = 16, 8
    compares, rates = tuple(PAIRS), tuple(SINGLES)

    def pair_question(self, a: Shown, b: Shown, prompt: str, dimension: str) -> list[Part]:
        return [a, b, RANK_2.replace("{prompt}", prompt)]

    def read_pair(self, written: Written, dimension: str) -> Comparison:
        label = PAIRS[dimension]
        pattern = rf"{label} Score\W*\s+Video 1\W*?\s*{NUMBER}\W*?\s+Video 2\W*?\s*{NUMBER}"
        found = set(re.findall(pattern, written.text, re.IGNORECASE))
        if len(found) != 1:
            return unread_pair(written)
        first, second = (float(share) for share in found.pop())
        if abs(first + second - 1) > SUM_ERROR:
            return unread_pair(written)
        verdict: Verdict = "tie" if first == second else "a" if first > second else "b"
        return Comparison(verdict=verdict, margin=first - second, reason=written.text.strip(), answers=(written.text,))

    def question(self, video: Shown, prompt: str, dimension: str) -> list[Part]:
        return [video, SCORE_2.replace("{prompt}", prompt)]

    def read(self, written: Written, dimension: str) -> Rating:
        return _score(written, rf"{SINGLES[dimension]} Score \(1-5\)\s*:\s*", 1, 5)


class UnifiedRewardThink(Format):
    """Think: reasons in a thought, and then which video is better; there are no ties and no single videos."""

    name = "unifiedreward-think"
    compares = ("overall",)
    pair_frames = 8

    def pair_question(self, a: Shown, b: Shown, prompt: str, dimension: str) -> list[Part]:
        return [a, b, THINK.replace("{prompt}", prompt)]

    def read_pair(self, written: Written, dimension: str) -> Comparison:
        start = behind_thought(written.text)
        answers = [] if start is None else list(ANSWER.finditer(written.text, start))
        if start is None or len(answers) != 1:
            return unread_pair(written)
        return _better(written, answers[0][1], answers[0].start(1), reason=written.text[:start])

    def question(self, video: Shown, prompt: str, dimension: str) -> list[Part]:
        raise _pairs_only(self.name)

    def read(self, written: Written, dimension: str) -> Rating:
        raise _pairs_only(self.name)


def _pairs_only(name: str) -> ReelignError:
    return ReelignError(f"The format {name} judges pairs alone.", "Compare videos, or choose another format.")


def _better(written: Written, text: str, offset: int, *, reason: str = "") -> Comparison:
    """The one verdict that a text gives, from `offset` of the answer on."""
    found = {(each["side"] or "tie"): each for each in BETTER.finditer(text)}
    if len(found) != 1:
        return unread_pair(written)
    (side, match), *_ = found.items()
    sure = None
    if side in SIDES:
        other = "2" if side == "1" else "1"
        sure = certainty(written, offset + match.start("side"), (side, other))
    thought = reason.replace("<think>", "").replace("</think>", "").strip()
    return Comparison(
        verdict=SIDES.get(side, "tie"),
        reason=thought or written.text.strip(),
        certainty=sure,
        answers=(written.text,),
    )


def _score(written: Written, label: str, worst: int, best: int) -> Rating:
    """The one number behind a label, with its grade: the lower and the upper third of the scale are bad and good."""
    found = {match[1]: match for match in re.finditer(label + NUMBER, written.text, re.IGNORECASE)}
    if len(found) != 1:
        return unread(written)
    (number, match), *_ = found.items()
    if not worst <= float(number) <= best:
        return unread(written)
    others = [str(whole) for whole in range(worst, min(best, 9) + 1) if str(whole) != number]
    third = (best - worst) / 3
    return Rating(
        grade=graded(float(number), worst + third, best - third),
        score=float(number),
        reason=written.text.strip(),
        certainty=certainty(written, match.start(1), (number, *others)) if len(number) == 1 else None,
        answers=(written.text,),
    )
