"""What restricts the tokens that a sequence may choose next."""

from typing import Protocol

import torch


class TokenConstraint(Protocol):
    """The state of one sequence's grammar. Only the engine thread calls it, once a step at most.

    It starts at the beginning of the answer and outlives a preemption: it follows the tokens, not their KV.
    """

    def mask(self) -> torch.Tensor:
        """The tokens allowed next: bool [vocabulary] on the CPU, True where allowed.

        End-of-sequence tokens are allowed where the grammar may end. Tokens past the end of a mask shorter than
        the model's logits (padding of the embedding) are not allowed. The caller does not keep the tensor beyond
        the step nor write to it, so that one buffer may serve every call. No token allowed is a dead end: the
        request then fails.

        Raises:
            RuntimeError, ValueError: the grammar's engine gave up (its limits, a bug); this request fails.
        """

    def advance(self, token: int) -> None:
        """Take the chosen token, one that `mask` allowed. Not called for the token that ends the answer.

        Raises:
            RuntimeError, ValueError: as for `mask`.
        """
