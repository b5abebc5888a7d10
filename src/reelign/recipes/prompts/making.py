"""Prompts made: drafts of every category, put into sentences, and of those the good and new ones kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from reelign.critics.asking import REFUSED
from reelign.critics.base import Tally
from reelign.critics.formats import UNPARSEABLE
from reelign.critics.judging import together
from reelign.critics.writing import Refused, Sampling, Writer
from reelign.diffusion.seeds import generator_from, seed_from
from reelign.errors import ReelignError
from reelign.recipes.prompts.drafts import Draft, combinations, drawn, question, read_prompt
from reelign.recipes.prompts.filters import Embedded, Overlap, fault, words_of
from reelign.recipes.prompts.settings import PromptSettings
from reelign.recipes.prompts.words import Category


@dataclass(frozen=True, kw_only=True, slots=True)
class MadePrompt:
    """A prompt and where it came from."""

    text: str
    category: str
    draft: str
    """As the template put its words."""


@dataclass
class Made:
    """What a call of `make_prompts` made."""

    prompts: list[MadePrompt] = field(default_factory=list)
    drafts: int = 0
    """Combinations of words looked at."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Why -> how many drafts."""
    short: dict[str, int] = field(default_factory=dict)
    """Category -> prompts that it lacks, for want of words or tries."""
    tally: Tally = field(default_factory=Tally)
    """Of the writer."""

    @property
    def by_category(self) -> dict[str, int]:
        return dict(Counter(prompt.category for prompt in self.prompts))


def make_prompts(
    settings: PromptSettings,
    categories: Sequence[Category],
    *,
    taken: Mapping[str, str] | None = None,
    writer: Writer | None = None,
) -> Made:
    """Make prompts, as many of each category.

    Args:
        categories: all there are; `settings.categories` picks from them.
        taken: prompts that there are already -> their split.
        writer: who puts the words into sentences; None is the template.
    Returns:
        As many as could be made; the same call makes the same ones, but for a writer's chance.
    Raises:
        ReelignError: a category that there is not, or a server that gives no answer.
    """
    chosen = _chosen(settings, categories)
    sieve = Sieve(settings, taken or {})
    made = Made()
    wanted = {each.name: settings.count // len(chosen) for each in chosen}
    for each in chosen[: settings.count % len(chosen)]:
        wanted[each.name] += 1
    for category in chosen:
        _fill(category, wanted[category.name], settings, sieve, writer, made)
    return made


class Sieve:
    """Lets through what is a good prompt and like none before it."""

    def __init__(self, settings: PromptSettings, taken: Mapping[str, str]) -> None:
        self._fault: Callable[[str], str] = partial(
            fault, min_words=settings.min_words, max_words=settings.max_words, forbidden=settings.forbidden
        )
        self._split = settings.split
        self._places = {words_of(text): split for text, split in taken.items()}
        self._overlap = Overlap(taken, ngram=settings.ngram, most=settings.overlap)
        self._embedded = (
            Embedded(list(taken), source=settings.embedding, most=settings.similarity) if settings.embedding else None
        )

    def reason(self, text: str) -> str:
        """Why a text is dropped, '' where it is kept; it then stands in the way of the next ones."""
        words = words_of(text)
        if wrong := self._fault(text):
            return wrong
        if words in self._places:
            split = self._places[words]
            return "already there" if split == self._split else f"stands in the split {split}"
        if self._overlap.holds(text):
            return "nearly the words of another"
        if self._embedded is not None:
            if self._embedded.holds(text):
                return "nearly the meaning of another"
            self._embedded.add(text)
        self._overlap.add(text)
        self._places[words] = self._split
        return ""


def _chosen(settings: PromptSettings, categories: Sequence[Category]) -> list[Category]:
    known = {each.name: each for each in categories}
    unknown = [name for name in settings.categories if name not in known]
    if unknown:
        raise ReelignError(f"There is no category {unknown[0]!r}.", f"Known are {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(settings.categories)] or list(categories)


def _fill(
    category: Category, wanted: int, settings: PromptSettings, sieve: Sieve, writer: Writer | None, made: Made
) -> None:
    """Draw, write and sieve until a category has what is wanted, or its tries or its words are at an end."""
    generator = generator_from(settings.seed, "prompts", category.name)
    seen: set[tuple[tuple[str, str], ...]] = set()
    kept, left = 0, wanted * settings.tries
    while kept < wanted and left > 0 and len(seen) < combinations(category):
        drafts: list[Draft] = []
        while len(drafts) < wanted - kept and left > 0 and len(seen) < combinations(category):
            draft = drawn(category, generator)
            if draft.words not in seen:  # a double is no try: of few words the last come only after many draws
                seen.add(draft.words)
                drafts.append(draft)
                left -= 1
        made.drafts += len(drafts)
        for draft, text in zip(drafts, _written(drafts, settings, writer, made), strict=True):
            reason = text.reason or sieve.reason(text.text)
            if reason:
                made.dropped[reason] += 1
                continue
            made.prompts.append(MadePrompt(text=text.text, category=category.name, draft=draft.text))
            kept += 1
    if kept < wanted:
        made.short[category.name] = wanted - kept


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sentence:
    text: str = ""
    reason: str = ""
    """Why there is none."""


def _written(drafts: Sequence[Draft], settings: PromptSettings, writer: Writer | None, made: Made) -> list[_Sentence]:
    """Each draft as a sentence, by the writer where there is one."""
    if writer is None:
        return [_Sentence(text=draft.text) for draft in drafts]
    return together(writer.concurrency, [partial(_refined, draft, settings, writer, made.tally) for draft in drafts])


def _refined(draft: Draft, settings: PromptSettings, writer: Writer, tally: Tally) -> _Sentence:
    sampling = Sampling(
        temperature=settings.writer.temperature,
        seed=seed_from(settings.seed, draft.text),
        max_tokens=settings.writer.max_tokens,
    )
    try:
        written = writer.write([question(draft, settings.max_words)], sampling)
    except Refused:
        tally.add(asked=1, refused=1)
        return _Sentence(reason=REFUSED)
    tally.add_written(written)
    text = read_prompt(written)
    if text is None:
        tally.add(unparseable=1)
        return _Sentence(reason=f"{UNPARSEABLE} answer")
    return _Sentence(text=text)
