"""Which models of others a server opens for its visitors, and what one would cost before anything is loaded.

Off unless the operator turns it on, in the environment:

    ATTNVIZ_HUB          off, list (names of a file alone) or any
    ATTNVIZ_HUB_NAMES    the file of allowed names, owner/name or owner/name@revision, one a line
    ATTNVIZ_HUB_FOLDERS  folders below which models may be opened, separated as in PATH; resolved, no links outwards
    ATTNVIZ_HUB_MEMORY   gigabytes that the models opened last may take together (4)

Scripts and notebooks are not asked: `attnviz.load` and `from_transformers` open what they are given.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from attnviz.hub.errors import CannotOpen

HUB, FOLDER = "hf:", "folder:"  # how the names of such models begin, in addresses too
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
MEMORY = 4.0  # gigabytes
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2}  # a number takes; others one
log = logging.getLogger("attnviz")


@dataclass(frozen=True)
class Policy:
    """What the operator allows."""

    kind: Literal["off", "list", "any"] = "off"
    names: frozenset[str] = frozenset()
    roots: tuple[Path, ...] = ()
    memory: float = MEMORY * 1e9  # bytes

    @property
    def opens(self) -> bool:
        """Whether a visitor can open anything at all."""
        return self.kind != "off"


def read_policy(environment: Mapping[str, str] = os.environ) -> Policy:
    """What the environment says; what it says wrongly is logged, and allows nothing."""
    kind = environment.get("ATTNVIZ_HUB", "off").strip().lower() or "off"
    if kind not in ("off", "list", "any"):
        log.warning("ATTNVIZ_HUB is %r; expected off, list or any, so no model of others is opened", kind)
        return Policy()
    named = environment.get("ATTNVIZ_HUB_FOLDERS", "").split(os.pathsep)
    roots = [Path(one).expanduser().resolve() for one in named if one]
    try:
        memory = float(environment.get("ATTNVIZ_HUB_MEMORY") or MEMORY)
    except ValueError:
        log.warning("ATTNVIZ_HUB_MEMORY is no number of gigabytes; %.0f are allowed", MEMORY)
        memory = MEMORY
    return Policy(
        cast(Literal["off", "list", "any"], kind),
        listed(environment.get("ATTNVIZ_HUB_NAMES", "")) if kind == "list" else frozenset(),
        tuple(root for root in roots if root.is_dir()),
        memory * 1e9,
    )


def listed(file: str) -> frozenset[str]:
    """The names in the operator's file; a line that begins with # is none."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines() if file else []
    except (OSError, UnicodeDecodeError) as error:
        log.warning("ATTNVIZ_HUB_NAMES cannot be read (%s), so no name is allowed", error)
        return frozenset()
    return frozenset(name for line in lines if (name := line.strip()) and not name.startswith("#"))


@dataclass(frozen=True)
class Source:
    """Where one model comes from: a repository of the hub, or a folder that may be opened."""

    name: str  # in the sidebar and in addresses: "hf:owner/name@revision" or "folder:name"
    repository: str = ""
    revision: str | None = None
    folder: Path | None = None


def source_of(asked: str, policy: Policy) -> Source:
    """What a visitor typed, as a source that the operator allows. Raises CannotOpen for any other."""
    asked = asked.strip()
    if not policy.opens:
        raise CannotOpen("this server opens no models of others; its operator can allow it by ATTNVIZ_HUB")
    if not asked:
        raise CannotOpen("type a name of the hub, such as owner/name, or a folder")
    if asked.startswith((FOLDER, ".", "/", "~")):
        return folder_of(asked.removeprefix(FOLDER), policy)
    name = asked.removeprefix(HUB).removeprefix("https://huggingface.co/").strip("/")
    if not NAME.fullmatch(name):
        raise CannotOpen(f"“{plain(asked)}” is no name of the hub; it is owner/name, or owner/name@revision")
    repository, _, revision = name.partition("@")
    if policy.kind == "list" and not {name, repository} & policy.names:
        raise CannotOpen(f"this server opens listed models only, and {plain(name)} is not on its list")
    return Source(f"{HUB}{name}", repository, revision or None)


def folder_of(asked: str, policy: Policy) -> Source:
    """A folder below one of the operator's. Raises CannotOpen for one elsewhere, also by links or dots."""
    if not policy.roots:
        raise CannotOpen("this server opens no folders; its operator can name some by ATTNVIZ_HUB_FOLDERS")
    given = Path(asked).expanduser()
    for root in policy.roots:
        folder = (given if given.is_absolute() else root / given).resolve()
        if folder.is_relative_to(root) and folder.is_dir():
            outside = [file for file in folder.rglob("*") if not file.resolve().is_relative_to(root)]
            if outside:
                what = f"links to files elsewhere ({plain(outside[0].name)})"
                raise CannotOpen(f"“{plain(asked)}” holds {what}; put the files themselves there")
            return Source(f"{FOLDER}{folder.relative_to(root)}", folder=folder)
    raise CannotOpen(f"there is no folder “{plain(asked)}” among those that this server opens")


def plain(text: str) -> str:
    """What a visitor typed, without the signs that Markdown would take for its own."""
    return "".join(sign for sign in text[:80] if sign.isalnum() or sign in " -_./@:")


@dataclass(frozen=True)
class Cost:
    """What opening a model takes: bytes to download, bytes of parameters in memory; None where nobody knows."""

    download: int
    memory: int | None


def cost_of_folder(folder: Path) -> Cost:
    """What a folder takes in float32, from the heads of its weights, without reading them."""
    counts = [parameters_of(file) for file in folder.glob("*.safetensors")]
    return Cost(0, None if not counts or None in counts else 4 * sum(count for count in counts if count))


def parameters_of(file: Path) -> int | None:
    """How many numbers a file of safetensors holds; None where its head cannot be read."""
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if not 0 < size < 100_000_000:
                return None
            head = json.loads(opened.read(size))
    except (OSError, ValueError):
        return None
    total = 0
    for name, entry in head.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            total += (last - first) // BYTES.get(entry["dtype"], 1)
    return total


def check_cost(source: Source, cost: Cost, policy: Policy) -> None:
    """Raise CannotOpen for a model that takes more memory than the operator allows for all."""
    if cost.memory is not None and cost.memory > policy.memory:
        raise CannotOpen(
            f"{plain(source.name)} takes {cost.memory / 1e9:.1f} GB of memory and this server opens models of at most "
            f"{policy.memory / 1e9:.1f} GB (ATTNVIZ_HUB_MEMORY); choose a smaller one"
        )
