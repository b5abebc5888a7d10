"""Learning to write an answer: the surprise at its tokens, and at no others."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from reelign.errors import ReelignError


def answer_token_loss(logits: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
    """The weighted surprise at each token of an answer.

        weight_i · -log softmax(logits_i)[token_i]

    Instruction tuning (Ouyang et al. 2022, arXiv:2203.02155; for critics Yang et al. 2025, arXiv:2502.02088, §4.2):
    what is asked carries no loss, so that only the logits before the answer's tokens are given. Divided by the sum of
    the weights of a whole batch, micro-batches with long and with short answers add up to its gradient.

    Args:
        logits: (T, V) of the next token at the places before the answer's T tokens.
        tokens: (T,) int64, the answer's.
        weights: (T,) at least 0; 0 of a token that is not to be learned.
    Returns:
        (T,) float32; weight · log V where the model knows nothing.
    Raises:
        ReelignError: shapes that do not fit.
    """
    if logits.ndim != 2 or tokens.shape != logits.shape[:1] or weights.shape != tokens.shape:
        raise ReelignError(
            f"Logits {tuple(logits.shape)} do not fit tokens {tuple(tokens.shape)} and weights {tuple(weights.shape)}.",
            "Give (T, V), (T,) and (T,).",
        )
    return weights * F.cross_entropy(logits.float(), tokens, reduction="none")
