"""Test: take something away from a forward pass, and see what the answer loses. For pictures and for texts."""

from attnviz import ui
from attnviz.ui.test import block, lens, remove, silence, size, swap

CHANGES = {  # identifier: label, module that shows it
    "remove": ("Remove", remove),
    "block": ("Block edges", block),
    "heads": ("Ablate heads", silence),
    "patch": ("Patch", swap),
    "lens": ("Logit lens", lens),
}

about = ui.model_run()
words = "text/test" if ui.reads_text() else "test"

ui.header(words)
if isinstance(about, ui.TextRun):
    ui.remarks(about)
elif isinstance(about, ui.ImageRun):
    ui.share_picture(about)


@ui.fragment
def page() -> None:
    labels = {name: label for name, (label, _) in CHANGES.items()}
    chosen = ui.one_of("What to change", labels, default="remove", key="change")
    if chosen != "lens":
        size.check(about)
    CHANGES[chosen][1].show(about)


page()
ui.footer(words)
