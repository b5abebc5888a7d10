"""What a project asks its judges: the `annotate` section of a workspace's settings."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from reelign.records.answers import ANSWERS, CANNOT_SAY, Kind

Wish = Literal["none", "optional", "required"]
"""Not `off`: YAML reads that as a boolean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """One thing to judge videos by."""

    name: str
    """As it stands in the record, such as VQ."""
    question: str = ""
    """What the page asks; where empty, the usual question about VQ, MQ, TA and overall, and the name of any other."""
    help: str = ""
    """What counts and what does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A video that the instructions show."""

    video: str
    """A file, relative to the workspace."""
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gold:
    """A question whose answer is known."""

    videos: tuple[str, ...]
    """Ids of videos in the record: two of a pair, one of a grade, N of a best-of-N."""
    answers: dict[str, str]
    """Dimension to the right verdict: a, b or tie of a pair with a for the first; a grade; or the place of the best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DefectTag:
    """A name for something wrong in a stretch of a video."""

    tag: str
    dimension: str = ""
    """Whose judgement carries the tag; the first dimension where empty."""


DIMENSIONS = (
    Dimension(name="VQ", help="Sharpness, colour, light, clean shapes. Leave motion aside."),
    Dimension(name="MQ", help="Smooth, steady, physically plausible motion. No flicker."),
    Dimension(name="TA", help="What the text asks for is there, and does what it says."),
)

USUAL_QUESTIONS = {
    "VQ": ("Which looks better?", "Which looks best?", "How good does it look?"),
    "MQ": ("Which moves better?", "Which moves best?", "How good is the motion?"),
    "TA": ("Which fits the text better?", "Which fits the text best?", "How well does it fit the text?"),
    "overall": ("Which is better?", "Which is best?", "How good is it?"),
}
"""Of a pair, of the best of some, of a single video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateSettings:
    """What is asked, of how many, and how the page is served."""

    title: str = "Judge the videos"
    instructions: str = "Watch every video to the end at least once. Judge each question by itself."
    """Paragraphs, with an empty line between them."""
    examples: tuple[Example, ...] = ()
    scale: Kind = "pairwise"
    """pairwise: six answers from `left clearly` to `cannot say`. best_of: the best of some. three_level: good, normal
    or bad. rating: 1 to 5."""
    best_of: int = 4
    """How many videos a best-of-N shows."""
    dimensions: tuple[Dimension, ...] = DIMENSIONS
    split: str = "train"
    adapter: str | None = ""
    """Whose candidates: '' of the generator alone; null compares all that were made of a prompt."""
    pairs_per_prompt: int = 0
    """At most so many questions about the candidates of a prompt; 0 asks about all pairs."""
    judges_per_item: int = 3
    judgements_per_judge: int = 0
    """After so many questions a judge is done; 0 is no limit."""
    choice: Literal["least_covered", "informative"] = "least_covered"
    """What is asked next; `informative` takes the pair whose outcome is least certain from what was said so far."""
    lease_minutes: float = 20.0
    """A question that a judge took and did not answer goes to another after this time."""
    gold: tuple[Gold, ...] = ()
    gold_rate: float = 0.05
    """Share of questions whose answer is known, as long as there are any."""
    repeat_rate: float = 0.05
    """Share of questions that the judge answered before, with the sides drawn anew."""
    reason: Wish = "optional"
    defects: tuple[DefectTag, ...] = ()
    defect_tags: Wish = "optional"
    seed: int = 0
    """Of the order of questions and the sides of videos."""
    host: str = "127.0.0.1"
    port: int = 8321
    tokens: bool = False
    """Ask for an invitation on loopback too; elsewhere it is always asked for."""
    secure_cookies: bool = False
    """For a page behind a proxy with TLS: browsers then send the session over HTTPS alone."""

    def __post_init__(self) -> None:
        names = [each.name for each in self.dimensions]
        if not names or not all(names) or len(set(names)) < len(names):
            raise ValueError(f"dimensions must be at least one, each with a name of its own, got {names}")
        for name, least in (("best_of", 3), ("judges_per_item", 1), ("pairs_per_prompt", 0), ("port", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.judgements_per_judge < 0:
            raise ValueError(f"judgements_per_judge must be at least 0, got {self.judgements_per_judge}")
        if self.best_of > 9:
            raise ValueError(f"best_of must be at most 9, one key each, got {self.best_of}")
        if not self.lease_minutes > 0:
            raise ValueError(f"lease_minutes must be positive, got {self.lease_minutes}")
        if not (self.gold_rate >= 0 and self.repeat_rate >= 0 and self.gold_rate + self.repeat_rate <= 0.5):
            raise ValueError(
                f"gold_rate and repeat_rate must be at least 0 and together at most 0.5, "
                f"got {self.gold_rate} and {self.repeat_rate}"
            )
        if self.defect_tags == "required" and not self.defects:
            raise ValueError("defect_tags is required, but defects names none")
        if self.choice == "informative" and self.scale != "pairwise":
            raise ValueError(f"choice = informative goes with the pairwise scale, got {self.scale}")
        self._check_names(names)

    def _check_names(self, names: list[str]) -> None:
        for tag in self.defects:
            if tag.dimension and tag.dimension not in names:
                raise ValueError(f"defects: {tag.tag!r} belongs to dimension {tag.dimension!r}, which is not asked")
        videos = {"pairwise": 2, "best_of": self.best_of}.get(self.scale, 1)
        allowed = ANSWERS.get(self.scale) or tuple(str(place) for place in range(self.best_of))
        for gold in self.gold:
            if len(gold.videos) != videos or not gold.answers:
                raise ValueError(f"gold: a {self.scale} question has {videos} videos and an answer, got {gold}")
            for name, answer in gold.answers.items():
                if name not in names or answer not in (*allowed, CANNOT_SAY):
                    raise ValueError(f"gold: {name} = {answer!r} answers nothing that is asked")

    @property
    def names(self) -> list[str]:
        """Of the dimensions, in the order asked."""
        return [each.name for each in self.dimensions]

    def question(self, dimension: Dimension) -> str:
        """What the page asks about a dimension."""
        usual = USUAL_QUESTIONS.get(dimension.name)
        return dimension.question or (
            usual[{"pairwise": 0, "best_of": 1}.get(self.scale, 2)] if usual else dimension.name
        )

    @property
    def asks_tokens(self) -> bool:
        """Whether judges and the admin need a token."""
        return self.tokens or not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from its own machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
