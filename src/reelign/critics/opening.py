"""A critic opened by name: its format put together with a model here or a server elsewhere."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from reelign.critics.asking import AskingCritic
from reelign.critics.base import Critic
from reelign.critics.cache import CachedWriter
from reelign.critics.formats import Format, Plain
from reelign.critics.server import ServerSettings, ServerWriter
from reelign.critics.table import CRITICS, FORMATS, CriticCard
from reelign.critics.writing import Sampling, Writer
from reelign.errors import ReelignError
from reelign.naming import is_object_name, named_object

SAVED = "critic.json"
"""In the folder of a trained critic, beside its weights: its name, and how it was trained on being asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticOptions:
    """How a critic of the table is opened."""

    model: str = ""
    """Another checkpoint, hub id or folder; '' is the card's."""
    server: ServerSettings = field(default_factory=ServerSettings)
    """With a `url` the critic is asked there and not loaded here."""
    format: str = ""
    """What it is asked, one of `FORMATS`; '' is the card's."""
    own: dict[str, str] = field(default_factory=dict)
    """Of the format `plain`: dimensions of one's own, name -> what is judged, in words."""
    frames: int | None = None
    """Shown of each video, evenly spread; None is what the format wants."""
    temperature: float | None = None
    """0 takes the likeliest answer; None is the card's."""
    seed: int = 0
    max_tokens: int | None = None
    """After which an answer is cut off; None is the card's."""
    min_pixels: int = 128 * 28 * 28
    """A local Qwen-VL enlarges a smaller frame to as many pixels."""
    max_pixels: int | None = None
    """And reduces a larger one; None is what the format wants."""
    device: str = "auto"
    """torch's name; `auto` is cuda where there is one."""
    dtype: str = "auto"
    """`auto` is bfloat16 off the CPU and float32 on it."""
    cache: str = ""
    """Folder of answers already given; '' keeps none, and `reelign judge` takes the workspace's."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be a number of at least 0, got {self.temperature}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.min_pixels < 1 or (self.max_pixels is not None and self.max_pixels < self.min_pixels):
            raise ValueError(f"min_pixels must be at least 1 and at most max_pixels, got {self.min_pixels}")


def open_critic(spec: str, **options: Any) -> Critic:
    """Open a critic once, ready to be asked.

    Args:
        spec: a name of `table.CRITICS`, the folder of a trained critic, the http(s) URL of an OpenAI-compatible server,
            or `package.module:object` (a Critic, or a class or function that gives one).
        options: fields of `CriticOptions`, `server` as its settings or a mapping of them; of a
            `package.module:object` what it takes itself.
    Raises:
        ReelignError: an unknown name or option, a missing module, no such server, weights that cannot be loaded.
    """
    if is_url(spec):
        server = options.get("server") or {}
        options["server"] = {**(server if isinstance(server, Mapping) else _as_dict(server)), "url": spec}
        spec = "server"
    if (Path(spec) / SAVED).is_file():
        return _trained(Path(spec), options)
    if spec in CRITICS:
        return _opened(spec, CRITICS[spec], _options(spec, options))
    found = _foreign(spec)
    critic = found if isinstance(found, Critic) else found(**options)
    if not isinstance(critic, Critic):
        raise ReelignError(
            f"{spec} gave {type(critic).__name__} and no critic.", "Derive its class from reelign.critics.Critic."
        )
    return critic


def check_critic(spec: str, **options: Any) -> None:
    """Refuse a name or options that `open_critic` would refuse, before hours of work; nothing is loaded or asked.

    Raises:
        ReelignError: an unknown name or option, or a missing module.
    """
    if is_url(spec):
        return
    if (Path(spec) / SAVED).is_file():
        _options(spec, options)
    elif spec in CRITICS:
        wanted = _options(spec, options)
        _format(wanted.format or CRITICS[spec].format, wanted.own)
        _source(spec, CRITICS[spec], wanted)
    else:
        _foreign(spec)


def _trained(folder: Path, given: Mapping[str, Any]) -> Critic:
    """The critic of a folder, asked as it was trained but for options that are given and not at their defaults."""
    saved = json.loads((folder / SAVED).read_text(encoding="utf-8"))
    name, plain = saved.pop("name"), CriticOptions()
    own = {key: value for key, value in given.items() if value != getattr(plain, key, None)}
    critic = _opened("local", CRITICS["local"], _options(str(folder), {**saved, "model": str(folder), **own}))
    critic.name = name
    return critic


def is_url(spec: str) -> bool:
    """Whether it is the address of a server."""
    return spec.startswith(("http://", "https://"))


def is_foreign(spec: str) -> bool:
    """Whether it is a class or object of the user's own, which knows nothing of the table's options."""
    return spec not in CRITICS and is_object_name(spec) and not is_url(spec)


def _opened(name: str, card: CriticCard, wanted: CriticOptions) -> Critic:
    format = _format(wanted.format or card.format, wanted.own)
    source = _source(name, card, wanted)
    writer: Writer
    if wanted.server.url:
        server = ServerWriter(wanted.server)
        writer, source = server, server.model
    else:
        writer = local_writer(source, wanted, wanted.max_pixels or max(format.max_pixels, wanted.min_pixels))
    if wanted.cache:
        writer = CachedWriter(writer, Path(wanted.cache))
    sampling = Sampling(
        temperature=card.temperature if wanted.temperature is None else wanted.temperature,
        seed=wanted.seed,
        max_tokens=wanted.max_tokens or card.max_tokens,
    )
    named = name if card.weights else source.rstrip("/").rpartition("/")[2]
    return AskingCritic(named, format, writer, sampling=sampling, frames=wanted.frames)


def local_writer(source: str, wanted: CriticOptions, max_pixels: int) -> Writer:
    """A model of this process, by what its config says it is.

    Raises:
        ReelignError: no such model, or weights that do not fit.
    """
    from transformers import AutoConfig

    from reelign.critics.local_images import ImagesWriter
    from reelign.critics.local_qwen import Pixels, QwenWriter
    from reelign.rewards.loading import load_part
    from reelign.rewards.qwen_vl import FAMILIES

    if load_part(AutoConfig, source).model_type not in FAMILIES:
        return ImagesWriter.load(source, device=wanted.device, dtype=wanted.dtype)
    pixels = Pixels(min_pixels=wanted.min_pixels, max_pixels=max_pixels)
    return QwenWriter.load(source, pixels=pixels, device=wanted.device, dtype=wanted.dtype)


def _source(name: str, card: CriticCard, wanted: CriticOptions) -> str:
    """The checkpoint, '' where a server knows it."""
    if name == "server" and not wanted.server.url:
        raise ReelignError("The critic 'server' was given no address.", "Give server.url=http://127.0.0.1:8000/v1")
    source = wanted.model or card.weights
    if not source and not wanted.server.url:
        raise ReelignError(f"The critic {name!r} was given no model.", "Give model=HUB-ID or model=FOLDER.")
    return source


def _format(name: str, own: Mapping[str, str]) -> Format:
    if name not in FORMATS:
        raise _unknown("format of critics", name, FORMATS)
    kind: type[Format] = named_object(FORMATS[name], "format")
    if kind is Plain:
        return Plain(own)
    if own:
        raise ReelignError(f"The format {name} has dimensions of its own, and 'own' was given.", "Use format=plain.")
    return kind()


def _foreign(spec: str) -> Any:
    if not is_object_name(spec):
        raise _unknown("critic", spec, CRITICS)
    found = named_object(spec, "critic")
    if not isinstance(found, Critic) and not callable(found):
        raise ReelignError(f"{spec} is no critic: it is {type(found).__name__}.", "Name a class that gives a Critic.")
    return found


def _options(spec: str, given: Mapping[str, Any]) -> CriticOptions:
    """Options checked by name and value."""
    for kind, held in ((CriticOptions, given), (ServerSettings, given.get("server"))):
        known = list(inspect.signature(kind).parameters)
        wrong = [name for name in (held if isinstance(held, Mapping) else ()) if name not in known]
        if wrong:
            raise _unknown(f"option of the critic {spec!r}", wrong[0], known)
    try:
        server = given.get("server")
        return CriticOptions(
            **{**given, **({"server": ServerSettings(**server)} if isinstance(server, Mapping) else {})}
        )
    except (ValueError, TypeError) as error:
        raise ReelignError(f"An option of the critic {spec!r} is not valid: {error}.", "Give another value.") from None


def _as_dict(settings: Any) -> dict[str, Any]:
    return {each.name: getattr(settings, each.name) for each in fields(settings)}


def _unknown(what: str, name: str, known: Collection[str]) -> ReelignError:
    near = get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return ReelignError(f"There is no {what} called {name!r}.", f"{hint}Known are {', '.join(known)}.")
