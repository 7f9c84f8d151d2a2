"""Lesson: attention built up in twelve steps on a sentence of the visitor's own."""

from attnviz import ui
from attnviz.ui import lesson, lesson_steps

ui.header("lesson")


@ui.fragment
def page() -> None:
    here = lesson.scene()
    step = lesson.step_choice(len(lesson_steps.STEPS))
    if here is not None:
        with ui.guard():  # the other steps stay in reach
            lesson_steps.show(step, here)
    lesson.turn(step, len(lesson_steps.STEPS))


page()
ui.footer("lesson")
