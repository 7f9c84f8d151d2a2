"""Start: a picture, what the model thinks of it, and one map to move the pointer over."""

from attnviz import ui

ui.header("start")
visit = ui.visit()
ui.predictions(visit)
ui.footer("start")
