"""Sentences to start from. The first of a model is what a visitor reads first. To add one: one line here.

Those that are to show something are proven: `python -m attnviz.curate` measures them (assets/examples.json).
"""

from __future__ import annotations

SICK = "The cat does not climb the tree, because it is sick."  # "it": the cat, in layer 5, head 3
HIGH = "The cat does not climb the tree, because it is high."  # there the tree
SENTENCES: dict[str, tuple[str, ...]] = {  # model -> texts
    "sentences": (
        "A warm and funny film with wonderful actors.",
        SICK,
        HIGH,
        "A little girl in a red coat feeds the ducks, and the ducks follow the girl home.",
        "What a long, dull and joyless film!",
        "Is the shop open? The man who sells bread says that it opens at nine.",
        "Two dogs are [MASK] in the snow.",
        "A man plays the guitar.",
    ),
    "stories": (
        "Once upon a time there was a little girl who lived in a village near the",
        "The old woman opened the door and saw a fox. The fox said to the old",
        "The keys to the cabinet",
        "A man in a blue shirt is standing on a",
        "Tom gave the ball to Mary, and Mary gave the ball to",
    ),
}
PAIRS = {"A man plays the guitar.": "Somebody is making music."}  # a text -> the second sentence that goes with it


def sentences_of(model: str) -> tuple[str, ...]:
    """The sentences to start from with a model: its own, or for any other model those of the first."""
    return SENTENCES.get(model, next(iter(SENTENCES.values())))
