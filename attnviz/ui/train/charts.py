"""The two charts of a training run: accuracy by epoch and loss by step."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from attnviz.plots import change, lines
from attnviz.training.live import runs
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

CLASSES = 10
HEIGHT = 300  # pixels


def draw_curves(run: runs.TrainingRun) -> None:
    """Accuracy and loss of every network, on axes that do not move."""
    left, right = st.columns(2, gap="medium")
    with left:
        draw_accuracy(run)
    with right:
        draw_loss(run)


def draw_accuracy(run: runs.TrainingRun) -> None:
    """Accuracy on held-out digits after every epoch."""
    st.markdown("**Accuracy** on held-out digits, by epoch")
    epochs = run.epoch + 1
    found = {model.title: [snapshot.accuracy for snapshot in model.snapshots[:epochs]] for model in run.models}
    now = ", ".join(f"{name} {percent(values[-1])}" for name, values in found.items())
    figure = lines(
        found,
        references={"chance": 1 / CLASSES},
        form=".1%",
        limits=(0, 1.02),
        points=True,
        x_title="Epoch",
        y_title="Accuracy",
        dark=dark(),
        height=HEIGHT,
    )
    change(figure, xaxis={"range": [0, run.plan.epochs * 1.01]})
    plot(figure, "accuracy", alt=f"Accuracy on held-out digits, by epoch; now {now}")


def draw_loss(run: runs.TrainingRun) -> None:
    """Loss on the training pictures of every step."""
    st.markdown("**Loss** on training pictures, by step")
    steps = run.step
    figure = lines(
        {model.title: model.losses[:steps] for model in run.models},
        x=np.arange(1, steps + 1),
        references={"chance": math.log(CLASSES)},
        limits=(0, 2.7),
        x_title="Step",
        y_title="Loss",
        dark=dark(),
        height=HEIGHT,
    )
    change(figure, xaxis={"range": [0, run.steps * 1.01]})
    plot(figure, "loss", alt=f"Loss by step, {steps} of {run.steps} steps")
