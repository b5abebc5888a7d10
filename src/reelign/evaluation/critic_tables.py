"""What was measured of a critic as tables for people to read, IPO's Table 6 first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reelign.evaluation.critic_results import Answers, CriticMeasured, PairAnswers, VideoAnswers
from reelign.evaluation.feedback_tables import NONE, Table, number, percent, share
from reelign.records.bootstrap import Interval

PUBLISHED = {"ViLA-13B, trained (published)": ("83.72", "95.33"), "ViLA-40B, trained (published)": ("86.14", "97.57")}
"""Yang et al. 2025 (arXiv:2502.02088), Table 6: pairwise and pointwise, on the authors' own labels."""


def critic_tables(measured: CriticMeasured, critic: str) -> list[Table]:
    """All that was measured; a table whose numbers are not there is left out."""
    return [*_tables(measured, critic)]


def _tables(measured: CriticMeasured, critic: str) -> Iterator[Table]:
    yield _accuracy(measured, critic)
    if measured.pairs:
        yield _pairs(measured.pairs)
    if measured.videos:
        yield _videos(measured.videos)
    both = [
        *((name, "two videos", each.answers) for name, each in measured.pairs.items()),
        *((name, "one video", each.answers) for name, each in measured.videos.items()),
    ]
    yield _answers(both)
    if any(each.prompts for _, _, each in both):
        yield _prompts(both)
    if any(each.certain for each in measured.pairs.values()):
        yield _certain(measured.pairs)


def _accuracy(measured: CriticMeasured, critic: str) -> Table:
    names = list(dict.fromkeys([*measured.pairs, *measured.videos]))
    rows = []
    for name in names:
        pairs, videos = measured.pairs.get(name), measured.videos.get(name)
        rows.append(
            [
                f"{critic}, {name}",
                str(pairs.pairs - pairs.ties) if pairs else "",
                share(pairs.without_ties) if pairs else NONE,
                str(videos.videos) if videos else "",
                share(videos.three_level) if videos else NONE,
            ]
        )
    rows += [[name, "", pairwise, "", pointwise] for name, (pairwise, pointwise) in PUBLISHED.items()]
    note = (
        "In %, with intervals over prompts: of pairs that people decided, asked once in either order (a tie is half "
        "right, ½ is chance); and of single videos, good, normal or bad as most people say. Published figures are of "
        "the authors' own labels and not of these."
    )
    return Table("Accuracy (as IPO's Table 6)", ["critic", "pairs", "pairwise", "videos", "pointwise"], rows, note)


def _pairs(found: Mapping[str, PairAnswers]) -> Table:
    header = ["dimension", "answered by", "pairs", "ties", "w/o ties", "with ties", "consistent", "and then w/o ties"]
    header += ["and then with ties", "first chosen"]
    rows = [
        [
            name,
            each.answers.answered_by,
            str(each.pairs),
            str(each.ties),
            share(each.without_ties),
            share(each.with_ties),
            share(each.consistent),
            share(each.swapped),
            share(each.swapped_with_ties),
            share(each.first),
        ]
        for name, each in found.items()
    ]
    note = (
        "Consistent: the same verdict in both orders; `and then` is the accuracy of these pairs alone, which position "
        "swap keeps. First chosen: of decided answers in both orders, 50 is no position bias."
    )
    return Table("Two videos", header, rows, note)


def _videos(found: Mapping[str, VideoAnswers]) -> Table:
    header = ["dimension", "answered by", "videos", "three levels", "good or normal against bad", "Spearman", "rated"]
    rows = [
        [
            name,
            each.answers.answered_by,
            str(each.videos),
            share(each.three_level),
            share(each.desirable),
            number(each.correlation.spearman) if each.correlation else NONE,
            str(each.correlation.videos) if each.correlation else "",
        ]
        for name, each in found.items()
    ]
    return Table("One video", header, rows, "Spearman's correlation is with people's mean ratings.")


def _answers(both: list[tuple[str, str, Answers]]) -> Table:
    rows = [
        [
            name,
            what,
            str(each.asked),
            share(each.unanswered),
            ", ".join(f"{count} x {reason}" for reason, count in each.left_out.items()) or NONE,
            _perhaps(each.repeated),
        ]
        for name, what, each in both
    ]
    note = (
        "Answers without a verdict count in no accuracy. Repeated: two askings of one question with one verdict; a "
        "critic that does not sample its answers has 100 by construction (temperature above 0 samples)."
    )
    header = ["dimension", "question", "asked", "no verdict", "why", "repeated"]
    return Table("Answers", header, rows, note)


def _prompts(both: list[tuple[str, str, Answers]]) -> Table:
    header = ["dimension", "question", "probes", "right prompt", "empty", "changed", "wrong prompt", "changed"]
    header += ["grade lower by"]
    rows = []
    for name, what, each in both:
        if (own := each.prompts) is not None:
            cells = [name, what, str(own.probes), share(own.right)]
            for way in ("empty", "wrong"):
                cells += [_perhaps(own.accuracy.get(way)), _perhaps(own.changed.get(way))]
            rows.append([*cells, _perhaps(own.fallen.get("wrong"), "+.1f")])
    note = (
        "Accuracy against what people said of the right prompt, and the share of other answers. A judge of text "
        "alignment that reads the prompt falls to chance without it and says otherwise of another one; one of looks "
        "and motion does not change. The last column is a wrong prompt's, in % of the way from good to bad."
    )
    return Table("Other prompts", header, rows, note)


def _certain(found: Mapping[str, PairAnswers]) -> Table:
    lines = next(each.certain for each in found.values() if each.certain)
    header = ["dimension", *(f"at least {line.at_least:g}: kept / w/o ties" for line in lines)]
    rows = [
        [name, *(f"{percent(own.share.mean, '.1f')} / {share(own.right)}" for own in each.certain)]
        for name, each in found.items()
        if each.certain
    ]
    return Table("By certainty", header, rows, "What is left where less certain verdicts are dropped, in %.")


def _perhaps(each: Interval | None, form: str = ".1f") -> str:
    return NONE if each is None else share(each, form)
