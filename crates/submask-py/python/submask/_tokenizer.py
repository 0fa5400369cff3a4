"""The tokenizer of a model."""

from __future__ import annotations

from typing import Any, NoReturn

from . import _native
from ._arguments import described, invalid, unsigned, whole
from ._arguments import text as valid_text
from ._samples import Tokens

__all__ = ["Tokenizer"]


class Tokenizer:
    """How a model's texts become tokens, and tokens texts. ``model.tokenizer`` is one."""

    def __init__(self, native: _native.ModelTokenizer) -> None:
        self._native = native

    def encode(self, text: str) -> Tokens:
        """The tokens of a text, uint32 [L].

        Raises:
            InvalidError: of characters that the tokenizer does not know, and of halves of surrogate pairs.
        """
        return self._native.encode(valid_text(text, "text"))

    def decode(self, tokens: Any, end_of_text: str = "") -> str:
        """The text of tokens [L], or of one token.

        Args:
            tokens: whole numbers below ``vocab_size``.
            end_of_text: what stands in the place of tokens that end a text.

        Raises:
            InvalidError: of tokens that do not exist.
        """
        array = unsigned(tokens, "tokens", "[L]")
        if array.ndim > 1:
            raise invalid("tokens", described(array), "uint32 [L]")
        return self._native.decode(array.reshape(-1), valid_text(end_of_text, "end_of_text"))

    def token_text(self, token: int) -> str:
        """One token as text, for display: bytes that are no text by themselves are U+FFFD, the end of a text is its name."""
        return self._native.token_text(whole(token, "token", 0, self.vocab_size - 1))

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return self._native.vocab_size()

    @property
    def end_of_text(self) -> int | None:
        """The token between texts, where there is one."""
        return self._native.end_of_text()

    @property
    def is_lossless(self) -> bool:
        """Whether every text decodes to itself by construction."""
        return self._native.is_lossless()

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} tokens)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Tokenizer of a model is not pickled: open the model in every process, by its path")
