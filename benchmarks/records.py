"""How fast the record is: import, pages, the page where people judge, and all that follows, on SQLite.

    python benchmarks/records.py --judgements 1000000

100,000 videos at a million judgements: groups of four, three dimensions, three judges of each pair that is judged. The
judging page has all pairs of all groups open; each judgement was made there, and one judge has work to ask for.
"""

from __future__ import annotations

import argparse
import platform
import random
import resource
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
from sqlalchemy import insert, select

from reelign.annotate import AnnotateSettings, Dimension
from reelign.annotate.counting import Counting
from reelign.annotate.desk import Desk
from reelign.annotate.invitations import join
from reelign.annotate.overview import overview
from reelign.annotate.planning import plan
from reelign.records import Judgement, Showing, Workspace, pages, preferences
from reelign.records.agreement import agreement, comparison_counts
from reelign.records.assignments import ANSWERED
from reelign.records.derived import comparisons
from reelign.records.exchange import Bundle, SharedVideo, add_bundle, read_tables, write_tables
from reelign.records.judgement_log import in_chunks
from reelign.records.panel import judge_statistics
from reelign.records.votes import votes

DIMENSIONS = ("VQ", "MQ", "TA")
JUDGES = [f"judge {number}" for number in range(30)]
QUERIES = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judgements", type=int, default=1_000_000)
    count = parser.parse_args().judgements
    print(f"{count} judgements over {count // 10} videos; {platform.platform()}")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        write_tables(made, _bundle(count))
        workspace = Workspace.create(Path(folder) / "w", model="benchmark")
        with _timed("import from Parquet"):
            add_bundle(workspace, read_tables(made))
        _time_pages(workspace, count)
        _time_judging(workspace)
        _time_derived(workspace)
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def _bundle(count: int) -> Bundle:
    size = {"fps": 16.0, "num_frames": 81, "height": 480, "width": 832}
    videos = [
        SharedVideo(
            id=f"{index:020x}",
            prompt=f"prompt {index // 4}",
            path=f"videos/{index}.mp4",
            generator=f"generator {index % 4}",
            index=index % 4,
            **size,
        )
        for index in range(count // 10)
    ]
    return Bundle(videos=videos, judgements=_judgements([video.id for video in videos], count))


def _judgements(videos: list[str], count: int) -> Iterator[Judgement]:
    chance = random.Random(0)
    places = list(combinations(range(4), 2))
    made = 0
    for turn in range(len(places)):
        for start in range(0, len(videos) - 3, 4):
            first, second = places[(turn + start // 4) % len(places)]
            for judge in chance.sample(JUDGES, 3):
                for dimension in DIMENSIONS:
                    if made == count:
                        return
                    made += 1
                    yield Judgement(
                        video_a=videos[start + first],
                        video_b=videos[start + second],
                        dimension=dimension,
                        verdict=chance.choices(("a", "b", "tie"), (5, 3, 2))[0],
                        judge=judge,
                        judge_version="1",
                        shown_left=chance.choice("ab"),
                        duration_s=chance.uniform(2, 20),
                    )


def _time_pages(workspace: Workspace, count: int) -> None:
    chance = random.Random(1)
    prompts = max(1, count // 40)

    def video(index: int) -> str:
        return f"{index:020x}"

    questions: dict[str, Callable[[], object]] = {}
    with workspace.reading() as session:
        questions["latest judgements"] = lambda: pages.latest_judgements(session, before=chance.randrange(count))
        questions["a judge's latest"] = lambda: pages.latest_judgements(
            session, before=chance.randrange(count), judge=chance.choice(JUDGES)
        )
        questions["a dimension's latest"] = lambda: pages.latest_judgements(
            session, before=chance.randrange(count), dimension=chance.choice(DIMENSIONS)
        )
        questions["a pair"] = lambda: pages.of_pair(session, *map(video, chance.sample(range(4), 2)))
        questions["a prompt"] = lambda: pages.of_prompt(session, chance.randrange(1, prompts))
        questions["prompts"] = lambda: pages.prompts_after(session, chance.randrange(prompts))
        questions["a judge's count"] = lambda: pages.judgements_made(session, chance.choice(JUDGES))
        for name, ask in questions.items():
            _time_often(name, ask, then=session.expunge_all)


def _time_often(name: str, ask: Callable[[], object], *, then: Callable[[], object] = lambda: None) -> None:
    times = []
    for _ in range(QUERIES):
        wall, cpu = time.perf_counter(), time.process_time()
        ask()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
        then()
    (middle, _), (late, busy) = np.quantile(times, (0.5, 0.95), axis=0) * 1000
    print(f"page: {name:<24} median {middle:7.2f} ms   p95 {late:7.2f} ms ({busy:.2f} ms of CPU)", flush=True)


def _time_judging(workspace: Workspace) -> None:
    """The overview and a judge's next question, as the server's own code makes them."""
    settings = AnnotateSettings(dimensions=tuple(Dimension(name=name) for name in DIMENSIONS))
    with _timed("open every pair on the judging page"):
        print(f"{plan(workspace, settings)} questions")
    with _timed("record who was shown what"):
        _show_all(workspace, settings)
    desk, counting = Desk(workspace, settings), Counting(workspace, settings)
    with desk.writing() as session:
        for judge in (JUDGES[0], "someone new"):
            join(session, judge)
    _time_often("an old judge's work", lambda: desk.work(JUDGES[0]))
    _time_often("a new judge's work", lambda: desk.work("someone new"))
    _time_often("coverage and judges", lambda: overview(workspace, settings, None))
    with _timed("the overview's figures, in a process of their own"):
        while (figures := counting.figures()) is None:
            time.sleep(0.1)
    _time_often("the overview", lambda: overview(workspace, settings, counting.figures()))
    print(f"{len(figures.disagreements)} disagreements, {len(figures.judges)} judges")
    desk.close()


def _show_all(workspace: Workspace, settings: AnnotateSettings) -> None:
    """A showing for each judge of each pair, as if the judgements had been made on the page."""
    now = datetime.now(UTC)
    task_of = {frozenset(task.videos): task.id for task in workspace.tasks()}
    with workspace.writing() as session:
        for judge in JUDGES:
            join(session, judge)
        rows = session.execute(
            select(Judgement.judge, Judgement.video_a, Judgement.video_b).where(Judgement.dimension == DIMENSIONS[0])
        )
        always = {"turn": 0, "revision": 0, "state": ANSWERED, "until": now, "changed": now}
        shown = ({"task": task_of[frozenset((a, b))], "judge": judge, "videos": [a, b]} for judge, a, b in rows.all())
        for some in in_chunks(shown, 5_000):
            session.execute(insert(Showing), [{"id": uuid.uuid4().hex, **row, **always} for row in some])
    plan(workspace, settings)


def _time_derived(workspace: Workspace) -> None:
    with _timed("vote, agreement, judges and pairs of everything"):
        with _timed("  read"):
            columns = comparisons(workspace)
        with _timed("  vote"):
            voted = votes(columns)
        with _timed("  agreement"):
            agreement(comparison_counts(columns))
        with _timed("  judges"):
            judge_statistics(columns)
        with _timed("  groups"):
            groups = workspace.groups()
        with _timed("  pairs"):
            found = preferences(groups, voted, pairs="all")
    print(f"{len(voted)} votes, {len(found.pairs)} pairs")


@contextmanager
def _timed(what: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{what}: {time.perf_counter() - wall:.1f} s ({time.process_time() - cpu:.1f} s of CPU)", flush=True)


if __name__ == "__main__":
    main()
