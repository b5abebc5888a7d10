"""Captions as Open-Sora 1.2 was trained to read them: with a score at the end, in plain small letters.

Its captions went twice through the cleaning of web captions that came with DeepFloyd IF. What that does to prose is
done here; what it throws out of web pages (addresses, file names, article numbers, the words of shops) is left alone.
"""

from __future__ import annotations

import html
import re
import unicodedata

AESTHETIC_SCORE = 6.5
"""That of Open-Sora's own sampling; the released model was trained with each video's own score behind its caption."""

PROSE: tuple[tuple[str, str], ...] = (
    ("[\u2010-\u2015\u2212]+", "-"),
    ("[\u00ab\u00bb\u201c\u201d`\u00b4\u00a8]", '"'),
    ("[\u2018\u2019]", "'"),
    ("[\u3200-\u4dff\u4e00-\u9fff]+", ""),  # Chinese characters, which the tokenizer does not know
    (r"[\"']{2,}", '"'),
    (r"[.]{2,}", " "),
    ("[#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~()\\[\\]{}|\\\\/*]+", " "),
    (r"\s+\.\s+", " "),
    (r"\b\s+:\s+", ": "),
    (r"(\D[,.])\b", r"\1 "),
    (r"\s+", " "),
)
MANY_HYPHENS = 3
EDGES = (r"^[\"']([\w\W]+)[\"']$", r"^['_,\-:;]", r"['_,\-:+]$")


def with_score(prompt: str) -> str:
    """The prompt and what the sampling of Open-Sora puts behind it, where it names no score itself."""
    return prompt if "aesthetic score:" in prompt else f"{prompt} aesthetic score: {AESTHETIC_SCORE:.1f}."


def cleaned(caption: str) -> str:
    """Small letters, plain quotation marks and hyphens, single spaces; twice, as in training."""
    for _ in range(2):
        caption = _cleaned_once(caption)
    return caption


def _cleaned_once(caption: str) -> str:
    caption = unicodedata.normalize("NFC", html.unescape(html.unescape(caption))).strip().lower()
    for pattern, other in PROSE:
        caption = re.sub(pattern, other, caption)
    if len(re.findall("[-_]", caption)) > MANY_HYPHENS:
        caption = re.sub("[-_]", " ", caption)
    for edge in EDGES:
        caption = re.sub(edge, lambda found: found.group(1) if found.re.groups else "", caption.strip())
    return caption.strip()
