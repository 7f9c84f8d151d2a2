"""The table of the bench, read with care: which variants have trained networks, and how well those did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnviz.attention import VARIANTS
from attnviz.models import DamagedModel, bench_results

RUN = "same shape"  # the run of the bench in which all networks have the same layers, width and MLP
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Bench:
    """What has been trained, and what is wrong with it."""

    rows: tuple[Row, ...] = ()
    sentence: str = ""  # for the visitor, where the table cannot be read

    def row(self, variant: str, run: str = RUN) -> Row | None:
        """The entry of a variant whose network is shown: that of the first seed."""
        return min(self.seeds(variant, run), key=lambda row: row["seed"], default=None)

    def seeds(self, variant: str, run: str = RUN) -> list[Row]:
        """The entries of a variant that differ in nothing but the seed."""
        return [row for row in self.rows if row["variant"] == variant and row["run"] == run]

    @property
    def models(self) -> list[str]:
        """The networks shown, by the names under which `load` opens them, in the order of VARIANTS."""
        return [f"bench/{row['name']}" for row in map(self.row, VARIANTS) if row is not None]


def bench() -> Bench:
    """The table of the bench; empty, with the reason, where it cannot be read."""
    needed = {"name", "variant", "run", "seed", "top1", "interval", "parameters"}
    try:
        rows = [row for row in bench_results() if needed <= row.keys()]
    except DamagedModel as error:
        return Bench(sentence=str(error))
    except (AttributeError, TypeError):  # JSON, but no list of tables
        return Bench(sentence="The table of the bench cannot be read. `make train NAME=bench` writes it again.")
    return Bench(tuple(row for row in rows if row["variant"] in VARIANTS))
