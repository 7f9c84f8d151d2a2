"""Text as subword tokens: byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) over bytes, so any text has them.

One vocabulary serves every text model. Frequent words are one token, rare ones several, and what the vocabulary has
never seen (other scripts, emoji) falls apart into bytes.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from attnviz.models.files import ASSETS, DamagedModel
from attnviz.types import CONTINUATION, Role, Token, Tokens
from attnviz.typography import BYTE, SPACE, PlainText, character, one_line, plain_text, shown

NAME, FILE = "subwords", "tokenizer.json"
PAD, BOS, EOS, CLS, SEP, MASK = range(6)  # ids of the tokens that stand for no text
SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[CLS]", "[SEP]", "[MASK]")
LABELS = tuple(name.strip("[]") for name in SPECIAL)
VOCABULARY = 8000


ROLES: Mapping[Role, int] = MappingProxyType({"pad": PAD, "bos": BOS, "eos": EOS, "cls": CLS, "sep": SEP, "mask": MASK})


class SubwordTokenizer:
    """The vocabulary of this project's text models, opened."""

    special = ROLES
    special_ids = frozenset(ROLES.values())

    def __init__(self, tokenizer: Tokenizer, digest: str = ""):
        self.tokenizer, self.digest = tokenizer, digest
        tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text
        self.mark = re.compile(re.escape(SPECIAL[MASK]))

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def ids(self, text: str) -> list[int]:
        """The numbers of the tokens of a clean text."""
        return self.tokenizer.encode(text).ids

    def batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The numbers of many clean texts."""
        return [found.ids for found in self.tokenizer.encode_batch(list(texts))]

    def encode(self, text: str, *, with_mask: bool = True) -> list[Token]:
        """A visitor's text as tokens, read as `plain_text` says; they lie in his own text, and show his own signs.

        The word [MASK] is one token and stands for a hidden word, unless it is read `with_mask` False.
        """
        plain = plain_text(text)
        found: list[Token] = []
        begin = 0
        for mark in [*(self.mark.finditer(plain.text) if with_mask else ()), None]:
            found += self.between(plain, begin, mark.start() if mark else len(plain.text), following(found))
            if mark:
                found.append(Token(MASK, LABELS[MASK], *plain.span(mark.start(), mark.end()), following(found)))
                begin = mark.end()
        return found

    def between(self, plain: PlainText, begin: int, end: int, words: int) -> Iterator[Token]:
        """The tokens of a part of a text; its first word has the number `words`."""
        part, last = plain.text[begin:end].rstrip(), None
        encoded = self.tokenizer.encode(part)
        for id, (start, stop), word in zip(encoded.ids, encoded.offsets, encoded.word_ids, strict=True):
            edges = begin + start, begin + stop
            span = plain.span(*edges)
            own = one_line(plain.own[slice(*span)]) if plain.whole(*edges) else ""
            yield Token(id, self.label(id, inside=word == last, own=own), *span, words + (word or 0))
            last = word

    def label(self, id: int, *, inside: bool = False, own: str = "") -> str:
        """How a token is called on screen; `inside` a word it begins with an ellipsis.

        Where it stands for whole signs of a text, they are shown: `own`, if the token reads them as others.
        """
        if id < len(SPECIAL):
            return LABELS[id]
        raw = self.bytes_of(id)
        if not raw.strip():
            return SPACE * len(raw)
        text = shown(raw).strip()
        if BYTE.match(text):
            return text
        return (CONTINUATION if inside else "") + (text if BYTE.search(text) else own or text)

    def written(self, ids: Sequence[int], before: str = "") -> Iterator[tuple[str, bool]]:
        """The label of each token, and whether it goes on with the word before it; a text that ended so stands before.

        Words are told apart as in a text that is read: letters, digits, other signs. Bytes of one character are in one.
        """
        raws = [b"" if id < len(SPECIAL) else self.bytes_of(id) for id in ids]
        last = sort(before[-1:]) if before else ""
        for i, (id, raw) in enumerate(zip(ids, raws, strict=True)):
            with_next = b"".join(raws[i : i + 4])  # a character has at most four bytes
            leads = [at for at, byte in enumerate(raw) if byte & 0xC0 != 0x80]  # where characters begin
            first = last if raw and 0 not in leads else sort(character(with_next))
            inside = bool(raw and last) and (first != "space" if last == "space" else first == last)
            yield self.label(id, inside=inside), inside
            last = sort(character(with_next[leads[-1] :])) if leads else last if raw else ""

    def bytes_of(self, id: int) -> bytes:
        """The bytes a token stands for."""
        alphabet = byte_alphabet()
        return bytes(alphabet[sign] for sign in self.tokenizer.id_to_token(id) or "")

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens on one line; special ones, and bytes that are no whole character (yet), say nothing."""
        raw = b"".join(self.bytes_of(id) for id in ids if id not in self.special_ids)
        return one_line(codecs.decode(raw, "utf-8", errors="ignore"))

    def begins_word(self, id: int) -> bool:
        """Whether a token has a space before it."""
        return id not in self.special_ids and self.bytes_of(id).startswith(b" ")

    def tokens(
        self,
        tokens: Sequence[Token],
        before: Sequence[int] = (),
        after: Sequence[int] = (),
        *,
        prefix: int = 0,
        stream: str = "main",
    ) -> Tokens:
        """Tokens between special ones as tokens; the first `prefix` have no place in the sentence."""
        labels = [LABELS[i] for i in before] + [p.label for p in tokens] + [LABELS[i] for i in after]
        words = [-1] * len(before) + [p.word for p in tokens] + [-1] * len(after)
        return Tokens(tuple(labels), None, prefix, stream, tuple(words))


def first_tokens(text: str, tokens: Sequence[Token], words: Sequence[tuple[int, int]]) -> list[int]:
    """The token each word begins with; `words` are (start, stop) in characters.

    The first that begins inside the word, else the one the word begins in: "n't" has no token of its own in "didn't".
    """
    begins = [p.start + text[p.start : p.start + 1].isspace() for p in tokens]  # a token brings the space before it
    found = []
    for start, stop in words:
        own = [i for i, begin in enumerate(begins) if start <= begin < max(stop, start + 1)]
        within = [i for i, p in enumerate(tokens) if p.start <= start < p.stop]
        found.append((own or within or [len(tokens) - 1])[0])
    return found


def following(tokens: Sequence[Token]) -> int:
    """The number of the word after these tokens."""
    return tokens[-1].word + 1 if tokens else 0


def sort(sign: str) -> str:
    """What a character is part of: a letter, a digit, a space, another sign. Half a character is in letters."""
    if sign.isspace():
        return "space"
    return {"L": "letter", "N": "digit"}.get(unicodedata.category(sign)[0], "sign") if sign else "letter"


@lru_cache(maxsize=1)
def byte_alphabet() -> dict[str, int]:
    """The sign each byte is written as inside the vocabulary: itself where it can be printed, else one above 255."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def learned_subwords(texts: Iterable[str], vocabulary: int = VOCABULARY) -> SubwordTokenizer:
    """A vocabulary learned from texts: the pair of tokens seen most often becomes a token, again and again."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return SubwordTokenizer(tokenizer)


def save_subwords(subwords: SubwordTokenizer, folder: Path, card: str) -> None:
    """Write tokenizer.json and card.md."""
    folder.mkdir(parents=True, exist_ok=True)
    subwords.tokenizer.save(str(folder / FILE), pretty=False)
    (folder / "card.md").write_text(card, encoding="utf-8")


@lru_cache(maxsize=4)
def load_subwords(folder: Path | None = None) -> SubwordTokenizer:
    """The shipped vocabulary. Raises DamagedModel."""
    folder = folder or ASSETS / NAME
    try:
        raw = (folder / FILE).read_bytes()
    except OSError as error:
        raise DamagedModel(folder, FILE, "is missing") from error
    try:
        return SubwordTokenizer(Tokenizer.from_buffer(raw), hashlib.sha256(raw).hexdigest())
    except Exception as error:  # the library raises nothing more particular
        raise DamagedModel(folder, FILE, "cannot be read") from error
