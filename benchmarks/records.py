"""How fast the record is: import, pages, and all that follows from the judgements, on SQLite.

    python benchmarks/records.py --judgements 1000000

100,000 videos at a million judgements: groups of four, three dimensions, three judges of each pair that is judged.
"""

from __future__ import annotations

import argparse
import platform
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import numpy as np

from reelign.records import Judgement, Workspace, pages, preferences
from reelign.records.agreement import agreement, comparison_counts
from reelign.records.derived import comparisons
from reelign.records.exchange import Bundle, SharedVideo, add_bundle, read_tables, write_tables
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
            times = []
            for _ in range(QUERIES):
                start = time.perf_counter()
                ask()
                times.append(time.perf_counter() - start)
                session.expunge_all()
            middle, late = np.quantile(times, (0.5, 0.95)) * 1000
            print(f"page: {name:<22} median {middle:7.2f} ms   p95 {late:7.2f} ms")


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
