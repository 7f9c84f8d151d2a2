"""What to train and how: `python -m attnviz.training NAME`. To add a model: one line in RECIPES."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from attnviz.models.nets import Shape
from attnviz.models.vit import ViTConfig
from attnviz.training.images.augment import Augmentation
from attnviz.training.images.start import Start

AnyShape = TypeVar("AnyShape", bound=Shape)


@dataclass(frozen=True)
class Recipe(Generic[AnyShape]):
    """The hyperparameters of a training run."""

    name: str  # folder under assets/models
    title: str
    config: AnyShape  # of the network
    data: str  # a name in DATA
    steps: int
    batch: int = 256
    learning_rate: float = 2e-3  # peak
    warmup: float = 0.08  # as a share of the steps
    weight_decay: float = 0.05  # of the matrices
    label_smoothing: float = 0.1
    superclass_loss_weight: float = 0.0  # weight of the cross-entropy of superclasses
    max_grad_norm: float = 1.0  # gradient clipping
    ema_decay: float = 0.998  # of the moving average of the parameters that is shipped
    patch_keep_schedule: tuple[tuple[float, float], ...] = ((0.0, 1.0),)  # (from this progress, share of patches kept)
    masked_removal: bool = False  # removed patches are masked, not left out, for what needs a grid or a fixed length
    windows: float = 0.0  # share of the pictures that keep a window of neighbours instead of scattered patches
    augmentation: Augmentation = field(default_factory=Augmentation)
    bfloat16: bool = True  # in matrix products while training
    seed: int = 0
    start: Start = "random"
    init_from: str = ""  # a shipped model whose training is continued, with a new schedule
    reinit: tuple[str, ...] = ()  # patterns of parameters that are initialised again all the same
    teacher: str = ""  # a shipped model whose answers are soft labels (`teacher.py`)
    distillation: float = 0.0  # weight of the loss against the teacher
    temperature: float = 1.0  # that divides the logits of both in that loss
    validation: int = 0  # training pictures of each class that are left out, to choose by


NONE = Augmentation(min_area=1.0, max_aspect_ratio=1.0, horizontal_flip=False, brightness=0.0)  # drawn afresh instead
MILD = Augmentation(min_area=0.6, brightness=0.2, blur=0.6)  # for a few epochs, which hardly overfit

CPU_VIT = Recipe(
    name="vit",
    title="Vision transformer, 4 px patches",
    config=ViTConfig(positions="learned2d"),
    data="photos",
    steps=3900,
    batch=128,
    ema_decay=0.997,
    # Most steps keep a quarter of the patches: that makes two cores enough, and the model learns to do without patches.
    patch_keep_schedule=((0.0, 0.25), (0.90, 0.5), (0.97, 1.0)),
    windows=0.5,  # see Run.visible_patches
    augmentation=MILD,
    start="mimetic",
)

WINDOWS = replace(CPU_VIT, steps=350, learning_rate=1.2e-3, ema_decay=0.985, windows=0.75, init_from="vit")

RECIPES: dict[str, Recipe] = {
    "vit": CPU_VIT,
    # The first shipped network hardly used positions, and attention in its first two layers was nearly uniform.
    "vit-again": replace(
        CPU_VIT,
        steps=1000,
        windows=0.0,
        augmentation=Augmentation(blur=0.6),
        init_from="vit",
        reinit=("positions", "blocks.[01].attention.*"),
    ),
    # Windows show whole neighbourhoods to the heads; augmentation is mild because so short a run repeats few pictures.
    "vit-windows": WINDOWS,
    # The same for longer, each time with another seed, so that pictures come in another order. Part of the loss is that
    # of superclasses, because another breed of dog is a better mistake than another animal. By now every picture has
    # been seen some thirty times, so augmentation is stronger, and the end keeps more patches.
    "vit-more": replace(
        WINDOWS,
        steps=5400,
        learning_rate=2e-3,
        ema_decay=0.998,
        superclass_loss_weight=0.3,
        patch_keep_schedule=((0.0, 0.25), (0.85, 0.5), (0.95, 1.0)),
        augmentation=Augmentation(min_area=0.4, blur=0.6),
        seed=6,
    ),
    "vit-gpu": replace(
        CPU_VIT,
        config=ViTConfig(width=256, layers=8, heads=8, positions="learned2d"),
        steps=27_000,  # 100 epochs
        batch=256,
        weight_decay=0.1,
        ema_decay=0.9995,
        patch_keep_schedule=((0.0, 0.5), (0.6, 0.75), (0.85, 1.0)),
        augmentation=Augmentation(min_area=0.25, brightness=0.4, blur=0.6),
    ),
    "vit-digits": Recipe(
        name="vit-digits",
        title="Vision transformer on handwritten digits",
        config=ViTConfig(size=8, patch=2, channels=1, width=48, layers=3, heads=4, mlp=2, classes=10),
        data="digits",
        steps=400,
        batch=128,
        learning_rate=4e-3,
        ema_decay=0.98,
        augmentation=Augmentation(
            min_area=0.8, max_aspect_ratio=1.1, horizontal_flip=False, brightness=0.0, shift=0.06
        ),
        bfloat16=False,
    ),
    # Of its pictures it is known which pixels decide. It sees all, three quarters, half and a quarter of the patches in
    # turn until the end, so that a picture with patches removed is nothing new to it. Labels are not smoothed, so that
    # its probabilities say how little can be known without the object.
    "vit-scenes": Recipe(
        name="vit-scenes",
        title="Vision transformer on scenes with known causes",
        config=ViTConfig(patch=8, width=64, layers=4, heads=4, classes=10, positions="learned2d"),
        data="scenes",
        steps=800,
        batch=64,
        learning_rate=4e-3,
        label_smoothing=0.0,
        ema_decay=0.99,
        patch_keep_schedule=tuple((i / 160, share) for i, share in enumerate(40 * (1.0, 0.75, 0.5, 0.25))),
        augmentation=NONE,
        bfloat16=False,
        start="mimetic",
    ),
}
