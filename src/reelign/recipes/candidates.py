"""Candidates: videos of prompts that are encoded a few at a time as they come."""

from __future__ import annotations

import torch
from torch import Tensor

from reelign.generators.base import Conditioning, Generator, Guidance
from reelign.generators.unknown_words import warn_of_unknown_words
from reelign.recipes.sampling import Sampling
from reelign.training.asked import against, check_images, encode_asked
from reelign.training.latent_guide import LatentGuide
from reelign.training.long_rollouts import Made, sample_videos

ENCODED_AT_ONCE = 16
"""Prompts that go through the text encoder together."""


class Candidates:
    """Samples candidates, with their prompts, and images where they have them, encoded a few at a time as they come.

    A text encoder's activations of a thousand prompts fit nowhere, and neither do its embeddings on a full device. The
    prompts are cut into parts of fixed bounds, so that an embedding does not depend on what was sampled before; prompts
    that come in the order they were given are encoded once.
    """

    def __init__(
        self, generator: Generator, sampling: Sampling, prompts: list[str], *, guide: LatentGuide | None = None
    ) -> None:
        self.generator = generator
        self.sampling = sampling
        self.guide = guide
        self.texts = list(dict.fromkeys(prompts))
        self.row = {text: index for index, text in enumerate(self.texts)}
        self._held: dict[int, Conditioning] = {}
        """The parts that the last batch was of."""
        check_images(generator, self.texts)
        warn_of_unknown_words(generator, [*self.texts, sampling.negative_prompt])
        self.negative = generator.encode_prompts([sampling.negative_prompt])

    def sample(self, prompts: list[str], seeds: list[int]) -> Tensor:
        """Latents of one video per prompt and seed, of one segment."""
        own, guidance = self._sides(prompts)
        sampling = self.sampling
        latents = self.generator.sample(
            own, seeds, sampling.size, steps=sampling.steps, guidance=guidance, steer=self.guide
        )
        self._warn()
        return latents

    def make(self, prompts: list[str], seeds: list[int]) -> Made:
        """One video per prompt and seed, of as many segments as are asked for."""
        own, guidance = self._sides(prompts)
        sampling = self.sampling
        made = sample_videos(
            self.generator,
            own,
            seeds,
            sampling.size,
            steps=sampling.steps,
            guidance=guidance,
            segments=sampling.segments,
            steer=self.guide,
        )
        self._warn()
        return made

    def _sides(self, prompts: list[str]) -> tuple[Conditioning, Guidance]:
        own = self.encoded(prompts)
        return own, self.sampling.guidance(against(own, self.negative))

    def _warn(self) -> None:
        if self.guide is not None:
            self.guide.log.warn()

    def encoded(self, prompts: list[str]) -> Conditioning:
        """A row for each prompt, of which all were given at the beginning."""
        rows = [self.row[text] for text in prompts]
        held, self._held = self._held, {}
        for part in sorted({row // ENCODED_AT_ONCE for row in rows}):
            texts = self.texts[part * ENCODED_AT_ONCE : (part + 1) * ENCODED_AT_ONCE]
            self._held[part] = held[part] if part in held else encode_asked(self.generator, texts, self.sampling.size)
        return Conditioning.cat(
            [self._held[row // ENCODED_AT_ONCE].take(torch.tensor([row % ENCODED_AT_ONCE])) for row in rows]
        )
