"""The tokenizer of a Hugging Face model as ours: word pieces joined to words for display, special tokens by role."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer as Backend

from attnviz.hub.errors import CannotOpen
from attnviz.types import CONTINUATION, Role, Token
from attnviz.typography import one_line

ROLES: tuple[Role, ...] = ("mask", "pad", "cls", "sep", "bos", "eos")  # a token with two roles has the first of these
SPACES = ("Ġ", "▁")  # how byte-level tokens and sentence pieces write the space before a word
INSIDE = "##"  # how word pieces write that none is before
WRITTEN_MASK = "[MASK]"


class HubTokenizer:
    """A vocabulary of the library `tokenizers`, in a copy of its own: special tokens written in a text are text."""

    def __init__(self, tokenizer: Any, size: int | None = None):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Backend):
            raise CannotOpen(
                f"{type(tokenizer).__name__} is no fast tokenizer, so it does not say which characters a token stands "
                "for; save it with a tokenizer.json"
            )
        if not backend.get_vocab_size(with_added_tokens=False):
            raise CannotOpen("its tokenizer is empty, as where a folder has none; put its tokenizer.json there")
        self.backend = Backend.from_str(backend.to_str())
        self.backend.no_truncation()
        self.backend.no_padding()
        self.digest = hashlib.sha256(self.backend.to_str().encode()).hexdigest()
        self.template = template(self.backend)
        self.backend.encode_special_tokens = True
        self.size = max(size or 0, self.backend.get_vocab_size())
        self.special: Mapping[Role, int] = roles(tokenizer)
        added = {id for id, token in self.backend.get_added_tokens_decoder().items() if token.special}
        unknown = getattr(tokenizer, "unk_token_id", None)  # stands for a word of the text, unless it has another role
        self.special_ids = frozenset(added - {unknown} | set(self.special.values()))
        self.names = {id: role.upper() for role, id in self.special.items()}

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str) -> list[Token]:
        """The tokens of a text, each with the characters it stands for; a mask that is written out is one token."""
        found: list[Token] = []
        start = 0
        for mark in [*(self.mark.finditer(text) if self.mark else ()), None]:
            stop = mark.start() if mark else len(text)
            found += self.between(text, start, stop, found[-1].word + 1 if found else 0)
            if mark:
                id, start = self.special["mask"], mark.end()
                word = found[-1].word + 1 if found else 0
                found.append(Token(id, self.label(id), mark.start(), mark.end(), word))
        return found

    @cached_property
    def mark(self) -> re.Pattern[str] | None:
        """How a hidden word is written; None where the vocabulary has no token for one."""
        id = self.special.get("mask")
        token = None if id is None else self.backend.id_to_token(id)
        return None if token is None else re.compile("|".join(map(re.escape, {WRITTEN_MASK, token})))

    def between(self, text: str, start: int, stop: int, word: int) -> Iterator[Token]:
        """The tokens of a part of a text; its first word has this number."""
        encoded = self.backend.encode(text[start:stop], add_special_tokens=False)
        end = start
        for i, (id, (begin, finish)) in enumerate(zip(encoded.ids, encoded.offsets, strict=True)):
            begin, finish = begin + start, finish + start
            sign = begin + len(text[begin:finish]) - len(text[begin:finish].lstrip())
            inside = i > 0 and continues(text, min(end, sign), sign)
            word += i > 0 and not inside
            own = one_line(text[begin:finish])
            yield Token(id, (CONTINUATION if inside else "") + (own or self.label(id)), begin, finish, word)
            end = max(end, finish)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens on one line; special ones say nothing."""
        known = [id for id in ids if id not in self.special_ids and self.backend.id_to_token(id) is not None]
        return one_line(self.backend.decode(known, skip_special_tokens=False))

    def label(self, id: int) -> str:
        """What a token is called; special ones by their role."""
        token = self.backend.id_to_token(id)
        if id in self.special_ids or token is None:
            return self.names.get(id) or (token or f"unused {id}").strip("[]<>|")
        return one_line(self.backend.decode([id], skip_special_tokens=False).replace(INSIDE, "")) or token

    def written(self, ids: Sequence[int], before: str = "") -> Iterator[tuple[str, bool]]:
        """The label of each of these tokens, and whether it goes on with the word before it."""
        last = before[-1:]
        for id in ids:
            label = self.label(id)
            special = id in self.special_ids
            inside = not special and not self.begins_word(id) and bool(last) and sort(last) == sort(label[:1])
            yield (CONTINUATION if inside else "") + label, inside
            last = "" if special else label[-1:]

    def begins_word(self, id: int) -> bool:
        """Whether a token has a space before it."""
        token = self.backend.id_to_token(id) or ""
        if id in self.special_ids:
            return False
        return token.startswith(SPACES) or (self.by_pieces and not token.startswith(INSIDE))

    @cached_property
    def by_pieces(self) -> bool:
        """Whether the vocabulary marks what stands inside a word, instead of the space before one."""
        return any(token.startswith(INSIDE) for token in self.backend.get_vocab())


def roles(tokenizer: Any) -> dict[Role, int]:
    """The id of each role; one id has one role."""
    found: dict[Role, int] = {}
    for role in ROLES:
        id = getattr(tokenizer, f"{role}_token_id", None)
        if isinstance(id, int) and id not in found.values():
            found[role] = id
    return found


def template(backend: Backend) -> tuple[list[int], list[int], list[int]]:
    """The special tokens before a text, between two texts, and after all."""
    encoded = backend.encode("a", "a", add_special_tokens=True)
    sides, ids = encoded.sequence_ids, encoded.ids
    if 1 not in sides:
        raise CannotOpen("its tokenizer does not read two texts")
    first, second = sides.index(0), sides.index(1)
    between = [id for id, side in zip(ids[first:second], sides[first:second], strict=True) if side is None]
    after = [id for id, side in zip(ids[second:], sides[second:], strict=True) if side is None]
    return ids[:first], between, after


def continues(text: str, end: int, begin: int) -> bool:
    """Whether what begins here goes on with the word that ended there: no space between, and signs of one sort."""
    if begin >= len(text) or end == 0 or any(sign.isspace() for sign in text[end:begin]):
        return False
    return not text[begin - 1 : begin].isspace() and sort(text[begin - 1]) == sort(text[begin])


def sort(sign: str) -> str:
    """What a character is part of: a letter, a digit, another sign."""
    return {"L": "letter", "M": "letter", "N": "digit"}.get(unicodedata.category(sign)[0], "sign") if sign else ""
