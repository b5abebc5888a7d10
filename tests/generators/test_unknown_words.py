"""Words that a tokenizer does not know are named, and those that it knows, ends of text among them, are not."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from reelign.generators import load_generator, resolve_model
from reelign.generators.unknown_words import unknown_words, warn_of_unknown_words
from reelign.recipes.candidates import Candidates
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.training.caches import cached_texts


def t5_like() -> PreTrainedTokenizerFast:
    """Pieces of text with the place before a word marked, and an unknown token, as T5's sentencepiece model."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁red", -1.0), ("▁cat", -1.0), ("▁", -2.0)]
    inner = Tokenizer(Unigram(pieces, unk_id=2))
    inner.pre_tokenizer = Metaspace()
    inner.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def clip_like() -> PreTrainedTokenizerFast:
    """Bytes, with one token that is the end of the text, the padding and the unknown word, as CLIP's."""
    vocabulary = {letter: index for index, letter in enumerate([*sorted(ByteLevel.alphabet()), "<|endoftext|>"])}
    inner = Tokenizer(BPE(vocabulary, []))
    inner.pre_tokenizer = ByteLevel()
    end = ("<|endoftext|>", vocabulary["<|endoftext|>"])
    inner.post_processor = TemplateProcessing(single="$A <|endoftext|>", special_tokens=[end])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=end[0], eos_token=end[0], pad_token=end[0])


def test_the_stretches_that_a_tokenizer_does_not_know() -> None:
    assert unknown_words(t5_like(), ["a red cat", "a 猫", "a red 猫"]) == {"猫": "a 猫"}
    assert unknown_words(clip_like(), ["a red cat", "a 猫"]) == {}
    assert unknown_words(t5_like(), []) == {}


def test_the_small_world_says_what_it_does_not_know(tmp_path: Path) -> None:
    generator = load_generator(resolve_model("spriteworld"))
    with pytest.warns(UserWarning, match="does not know 'ball', 'jumps' of the prompts, such as 'a red ball jumps'"):
        cached_texts(["a red square moves left", "a red ball jumps"], generator, tmp_path)
    sampling = Sampling.resolve(GenerateSettings(), generator)
    with pytest.warns(UserWarning, match="'b', 'c', 'd' and 1 more"):
        Candidates(generator, sampling, ["b c d e"])


def test_nothing_is_said_of_words_that_it_knows() -> None:
    generator = load_generator(resolve_model("spriteworld"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unknown_words(generator, ["a red square moves left", ""])
