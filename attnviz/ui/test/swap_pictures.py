"""Two pictures whose residuals are exchanged: CLS and the like alone, patches in blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st
from PIL import Image

from attnviz import views
from attnviz.types import Sample, Tokens
from attnviz.ui.core.cache import trace
from attnviz.ui.core.state import go, select
from attnviz.ui.inputs.image_run import ImageRun, chosen_size, own_pictures, prepared
from attnviz.ui.inputs.samples import open_sample, samples_of
from attnviz.ui.test.again import at_size, opening, picture_file, target_line
from attnviz.ui.test.changed_answer import answered
from attnviz.ui.test.pair import Pair, depth_name

BLOCKS = 4  # of patches along each side, that are patched together
WHY_BLOCKS = (
    "One patch of {count} carries next to nothing over, so patches are patched together in blocks; tokens that are no "
    "patches, such as CLS, alone."
)


def choose(about: ImageRun) -> Pair:
    """The picture beside the one in the sidebar, kept in the address; by default the first with another answer."""
    names = [name for name in (*samples_of(about.name), *own_pictures()) if name != about.source]
    first = other_answer(about, names)
    name = select(
        "The other picture, whose residuals are patched in", {n: n for n in names}, default=first, key="donor"
    )
    other = sample_of(about, name)
    tokens = about.sample.tokens["main"]
    groups, places = blocks(tokens)
    views.send_picture("donor", picture_of(about, name), other.image or picture_of(about, name), crop_of(other), tokens)
    return Pair(
        about=about,
        other=other,
        groups=groups,
        places=places,
        draw=lambda share, cell, pick: draw(about, groups, share, cell, pick),
        beside=beside,
        restart=lambda: restart(first),
        lines=lambda: lines(about, name, groups),
    )


def beside() -> None:
    """The other picture."""
    st.markdown("**The other picture**")
    views.picture_view("test:donor", picture="donor", height=180, label="The other picture")


def picture_of(about: ImageRun, name: str) -> Image.Image:
    """A sample picture or one of the visitor's own."""
    own = own_pictures()
    return (own[name] if name in own else open_sample(about.name, name)).image


def sample_of(about: ImageRun, name: str) -> Sample:
    """That picture made ready for the model."""
    own = own_pictures()
    picture = own[name] if name in own else open_sample(about.name, name)
    return prepared(about.model.digest, picture.digest, about.model, picture.image, size=chosen_size(about.model))


def crop_of(sample: Sample) -> tuple[int, int, int, int]:
    """What the network saw of its picture."""
    return sample.crop or (0, 0, 1, 1)


def other_answer(about: ImageRun, names: list[str]) -> str:
    """The first picture whose answer is another than this one's; the first of all where there is none."""
    target = answered(about)
    for name in names:
        logits = trace(about.name, sample_of(about, name)).logits
        if target is not None and int(logits[str(target.output)][target.row or 0].argmax()) != target.label:
            return name
    return names[0]


def restart(name: str) -> None:
    """A button that chooses a picture with another answer."""
    st.button(f"Use {name}", key="donor:restart", on_click=go, kwargs={"donor": name}, icon=":material/undo:")


def blocks(tokens: Tokens) -> tuple[tuple[tuple[int, ...], ...], list[str]]:
    """The tokens that are patched together, and what they are called: each of the prefix, then blocks of patches."""
    rows, columns = tokens.grid or (1, len(tokens) - tokens.prefix)
    groups: list[tuple[int, ...]] = [(token,) for token in range(tokens.prefix)]
    names = list(tokens.labels[: tokens.prefix])
    for down in np.array_split(np.arange(rows), min(BLOCKS, rows)):
        for across in np.array_split(np.arange(columns), min(BLOCKS, columns)):
            groups.append(tuple(int(tokens.prefix + row * columns + column) for row in down for column in across))
            names.append(f"{span('row', down)}, {span('column', across)}")
    return tuple(groups), names


def span(name: str, places: np.ndarray) -> str:
    """Some neighbouring rows or columns: "rows 1 to 4"."""
    first, last = int(places[0]) + 1, int(places[-1]) + 1
    return f"{name} {first}" if first == last else f"{name}s {first} to {last}"


def send(about: ImageRun, groups: tuple[tuple[int, ...], ...], share: np.ndarray) -> list[str]:
    """Give the browser the shares [depth group], each at all tokens of its group; the names of the depths."""
    tokens = about.sample.tokens["main"]
    spread = np.zeros((len(share), len(tokens)), np.float32)
    for index, group in enumerate(groups):
        spread[:, list(group)] = share[:, index, None]
    names = [depth_name(depth) for depth in range(len(share))]
    views.send_maps("crossing", spread, titles=names, keys=tokens, signed=True, map_type="crossing", unit="percent")
    return names


def draw(
    about: ImageRun,
    groups: tuple[tuple[int, ...], ...],
    share: np.ndarray,
    cell: int,
    pick: Callable[[tuple[int, ...]], None],
) -> None:
    """The picture with the shares of one depth, and all depths small beside each other."""
    depths, count = share.shape
    depth, place = divmod(cell, count)
    tokens, names = about.sample.tokens["main"], send(about, groups, share)
    style = views.ViewStyle(scale="sqrt", shared=True)

    def open_depth(chosen: tuple[int, int]) -> None:
        pick((chosen[1] * count + place,))

    def open_patch(chosen: tuple[int, ...]) -> None:
        if chosen:
            pick((depth * count + next(i for i, group in enumerate(groups) if chosen[-1] in group),))

    views.tiles_view(
        "test:depths",
        maps=["crossing"],
        rows=[""],
        columns=["In", *map(str, range(1, depths))],
        picture="picture",
        selected=(0, depth),
        tile=96,
        style=style,
        label="How far the answer crosses, by the depth that is patched; click one to see it large",
        on_pick=open_depth,
    )
    views.picture_view(
        "test:blocks",
        picture="picture",
        maps="crossing",
        index=depth,
        tokens=groups[place],
        style=style,
        height=380,
        label=f"{names[depth]}: click a block of patches for its numbers",
        on_pick=open_patch,
    )
    st.caption(WHY_BLOCKS.format(count=len(tokens) - tokens.prefix))


def lines(about: ImageRun, other: str, groups: tuple[tuple[int, ...], ...]) -> list[str]:
    """The Python lines that compute the map again."""
    target = answered(about)
    named = "None" if target is None else target_line(target)
    return [
        *opening(about, "from attnviz.measures.interventions import crossing", "from attnviz.types import Target"),
        f"other = model(model.prepare({picture_file(about.name, other)!r}{at_size(about)}))",
        f"groups = {[list(group) for group in groups]}",
        f"share = crossing(model, sample, other, {named}, groups=groups).share  # [depth group]",
    ]
