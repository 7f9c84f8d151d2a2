"""What keyboards and word processors write, as the text models know it; and bytes of a text as something to read.

The corpus is plain: straight quotes, hyphens, three full stops, ordinary spaces. A sign it never holds falls apart into
bytes nobody trained, and "isn’t" loses its negation. So a text is made plain before it is cut into tokens, and every
sign of the plain text knows which part of the visitor's own text it stands for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}  # Unicode categories of what has no picture
JOINERS = "\u200c\u200d"  # hold emoji and letters of some scripts together
JOINED = {"Lo", "Lm", "Mn", "Mc", "Me", "So", "Sk"}  # categories of what they hold together; Latin letters are not
SPACE = "␣"  # the label of a space alone
BYTE = re.compile(r"<([0-9A-F]{2})>")

# What the plain text writes for a sign. A dash is " - ", as 17,000 times in the stories ("--": 450 times).
SINGLE = "‘’‚‛′‵‹›❛❜`´ʹʻʼʽˈ՚"
DOUBLE = "“”„‟″‶«»❝❞〝〞〟˝ˮ「」『』"
LONG = "—―⸺⸻﹘︱"  # between words, also where no space is typed
PLAIN = {
    **dict.fromkeys(SINGLE, "'"),
    **dict.fromkeys(DOUBLE, '"'),
    **dict.fromkeys(LONG, " - "),
    "‴": "'''",
    "⁗": "''''",
    "−": "-",
    "⁃": "-",
    "⋯": "...",
    "⁄": "/",
}
# Compatibility forms (NFKC) are the same letters in another shape: ligatures, full width, an ellipsis. Not so these:
# m² is not m2, 1½ not 11/2, ™ no word and ① no 1.
KEPT = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
MOST = 4  # signs that one may become; ﷺ would be 18, and a few of them all that a model reads


@dataclass(frozen=True)
class PlainText:
    """A text as models read it, and where each of its signs stands in the visitor's own."""

    own: str
    text: str
    starts: tuple[int, ...]  # of the part of `own` that a sign of `text` stands for; an added space stands for none
    stops: tuple[int, ...]

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The part of the visitor's text that a part of the plain text stands for."""
        if start < stop:
            return self.starts[start], self.stops[stop - 1]
        at = self.starts[start] if start < len(self.starts) else len(self.own)
        return at, at

    def whole(self, start: int, stop: int) -> bool:
        """Whether a part of the plain text stands for whole signs: of "ﬁ" the plain "f" is only a part."""
        edges = [edge for edge in (start, stop) if 0 < edge < len(self.text)]
        return all(self.stops[edge - 1] <= self.starts[edge] for edge in edges)


def plain_text(text: str) -> PlainText:
    """A visitor's text as models read it: on one line, composed (NFC), its signs those of the corpus."""
    signs, starts, stops = list[str](), list[int](), list[int]()
    for start, stop, cluster in clusters(text):
        found = plain_sign(cluster)
        for i, sign in enumerate(found):
            if sign == " " and (not signs or signs[-1] == " "):
                continue
            added = sign == " " and cluster[0] in LONG  # around a dash: it stands for nothing
            signs.append(sign)
            starts.append(stop if added and i else start)
            stops.append(start if added and not i else stop)
    if signs and signs[-1] == " ":
        del signs[-1], starts[-1], stops[-1]
    return PlainText(text, "".join(signs), tuple(starts), tuple(stops))


def clean(text: str) -> str:
    """A visitor's text as models read it."""
    return plain_text(text).text


def one_line(text: str) -> str:
    """A text to be shown, in the signs it is written in: on one line, without signs that have no picture.

    Of these, signs that turn the direction of writing would turn the page too.
    """
    return re.sub(r"\s+", " ", "".join(text[i] for i in visible(text))).strip()


def visible(text: str) -> Iterator[int]:
    """The places of the signs that have a picture, of spaces, and of joiners that hold something together."""
    for i, sign in enumerate(text):
        if sign in JOINERS:
            around = (text[i - 1 : i], text[i + 1 : i + 2])
            if all(beside and unicodedata.category(beside) in JOINED for beside in around):
                yield i
        elif sign.isspace() or unicodedata.category(sign) not in UNSEEN:
            yield i


def clusters(text: str) -> Iterator[tuple[int, int, str]]:
    """The visible signs, each with the accents over it; dashes in a row are one. Start, stop, and what stands there."""
    start, stop, cluster = 0, 0, ""
    for i in visible(text):
        if cluster and (goes_with(text[i]) or (text[i] in LONG and cluster[-1] in LONG)):
            stop, cluster = i + 1, cluster + text[i]
            continue
        if cluster:
            yield start, stop, cluster
        start, stop, cluster = i, i + 1, text[i]
    if cluster:
        yield start, stop, cluster


@lru_cache(maxsize=4096)
def goes_with(sign: str) -> bool:
    """Whether a sign may melt into the one before: an accent, or a later part of a Korean syllable."""
    if sign.isascii():
        return False
    first = unicodedata.normalize("NFKC", sign)[:1]
    return unicodedata.category(first).startswith("M") or "\u1160" <= first <= "\u11ff"


@lru_cache(maxsize=4096)
def plain_sign(cluster: str) -> str:
    """What the plain text writes for one sign and the accents over it."""
    if cluster[0] in LONG:
        return PLAIN[cluster[0]]
    return unicodedata.normalize("NFC", "".join(map(compatible, cluster)))


def compatible(sign: str) -> str:
    """One sign in its plain form."""
    if sign in PLAIN or sign.isspace():
        return PLAIN.get(sign, " ")
    same = unicodedata.normalize("NFKC", sign)
    changed = same != unicodedata.normalize("NFC", sign)
    if changed and (len(same) > MOST or same[0] == " " or unicodedata.decomposition(sign).startswith(KEPT)):
        return sign  # NFKC makes a lone accent, such as ¨, a space with an accent over it
    same = "".join(PLAIN.get(part, part) for part in same)
    return "-" if unicodedata.category(sign) == "Pd" else same


def shown(raw: bytes) -> str:
    """Bytes as the text they are; what is no whole character, or has no picture, as <C5>."""
    found, at = list[str](), 0
    while at < len(raw):
        sign = character(raw[at:])
        size = len(sign.encode()) or 1
        seen = sign and (sign.isprintable() or sign in JOINERS)
        found.append(sign if seen else "".join(f"<{byte:02X}>" for byte in raw[at : at + size]))
        at += size
    return "".join(found)


def character(raw: bytes) -> str:
    """The character that bytes begin with; empty where they begin with part of one."""
    found = raw[:4].decode("utf-8", errors="surrogateescape")[:1]  # a character has at most four bytes
    return "" if "\udc80" <= found <= "\udcff" else found


def hidden_bytes(label: str) -> bytes:
    """The bytes that are shown as a label."""
    parts = BYTE.split(label)  # text, byte, text, byte, ..., text
    return b"".join(bytes.fromhex(part) if i % 2 else part.encode() for i, part in enumerate(parts))
