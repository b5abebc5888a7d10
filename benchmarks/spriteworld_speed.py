"""How many videos of the small world are rendered and judged each second: `python benchmarks/spriteworld_speed.py`."""

from __future__ import annotations

import time

import torch

from reelign.spriteworld.judges import scores
from reelign.spriteworld.world import sample_mix


def main(count: int = 1024, batch: int = 128) -> None:
    generator = torch.Generator().manual_seed(0)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rendering = judging = 0.0
        for _ in range(count // batch):
            start = time.perf_counter()
            videos, texts, *_ = sample_mix(batch, generator)
            middle = time.perf_counter()
            scores(videos, texts)
            rendering, judging = rendering + middle - start, judging + time.perf_counter() - middle
        print(
            f"{threads} threads: rendered {count / rendering:.0f}/s, judged {count / judging:.0f}/s, "
            f"both {count / (rendering + judging):.0f} videos/s"
        )


if __name__ == "__main__":
    main()
