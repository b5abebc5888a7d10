"""A critic opened by name."""

from __future__ import annotations

from typing import Any

from reelign.critics.base import Critic
from reelign.errors import ReelignError
from reelign.naming import is_object_name, named_object


def open_critic(spec: str, **options: Any) -> Critic:
    """Open a critic once, ready to be asked.

    Args:
        spec: a name of `table.CRITICS`, the http(s) URL of an OpenAI-compatible server, or `package.module:object` (a
            Critic, or a class or function that gives one).
        options: see `opening.CriticOptions`, such as `url`, `model`, `frames`, `temperature`; of a
            `package.module:object` what it takes itself.
    Raises:
        ReelignError: an unknown name or option, a missing module, weights that cannot be loaded.
    """
    if not is_object_name(spec):
        raise ReelignError(f"No critic is called {spec!r}.", "Name it as package.module:object.")
    found = named_object(spec, "critic")
    critic = found if isinstance(found, Critic) else found(**options)
    if not isinstance(critic, Critic):
        raise ReelignError(
            f"{spec} gave {type(critic).__name__} and no critic.", "Derive its class from reelign.critics.Critic."
        )
    return critic
