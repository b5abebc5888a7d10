"""VideoScore2's format: a thought, then three scores of 1 to 5 for a video by itself (arXiv:2509.22799)."""

from __future__ import annotations

from reelign.critics.base import Comparison, Rating
from reelign.critics.formats import Format, graded, unread
from reelign.critics.frames import Part, Shown
from reelign.critics.parsing import THOUGHT
from reelign.critics.writing import Written, certainty
from reelign.errors import ReelignError
from reelign.rewards.videoreward_template import PROMPT
from reelign.rewards.videoscore2 import QUESTION
from reelign.rewards.videoscore2_answer import read_digits
from reelign.video import Clip

ASPECTS = {
    "VQ": "visual_quality",
    "TA": "text_to_video_alignment",
    "physical_consistency": "physical_consistency",
}
DIGITS = ("1", "2", "3", "4", "5")


class VideoScore2Format(Format):
    """Videos are compared by their scores; 1 and 2 are bad, 3 is normal, 4 and 5 are good."""

    name = "videoscore2"
    compares = rates = tuple(ASPECTS)
    by_rating = True
    max_pixels = 768 * 28 * 28

    def count(self, clip: Clip, *, pair: bool) -> int:
        """Two frames per second, as on its card, and at least four."""
        return max(4, round(2 * len(clip.frames) / clip.fps))

    def pair_question(self, a: Shown, b: Shown, prompt: str, dimension: str) -> list[Part]:
        """Never asked.

        Raises:
            ReelignError: always; pairs are compared by their scores.
        """
        raise self._singles_only()

    def read_pair(self, written: Written, dimension: str) -> Comparison:
        """Never answered, as `pair_question`."""
        raise self._singles_only()

    def question(self, video: Shown, prompt: str, dimension: str) -> list[Part]:
        """The authors' question on all three aspects at once, whichever the dimension: a cache answers the others."""
        return [video, QUESTION.replace(PROMPT, prompt)]

    def read(self, written: Written, dimension: str) -> Rating:
        """The digit 1 to 5 of the dimension's aspect, with its probability among the five; none where it is missing."""
        places = read_digits(written.text)
        if places is None:
            return unread(written)
        place = places[ASPECTS[dimension]]
        digit = written.text[place]
        thought = THOUGHT.search(written.text)
        return Rating(
            grade=graded(int(digit), 2.5, 3.5),
            score=float(digit),
            reason=(thought[1] if thought else written.text).strip(),
            certainty=certainty(written, place, (digit, *(other for other in DIGITS if other != digit))),
            answers=(written.text,),
        )

    def _singles_only(self) -> ReelignError:
        return ReelignError(f"The format {self.name} judges single videos.", "Compare their scores.")
