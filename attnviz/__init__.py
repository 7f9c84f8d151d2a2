"""See what every attention head of a real trained model does with your picture.

model = attnviz.load("vit")
sample = model.prepare("dog.jpg")  # or a PIL image, bytes, an array
trace = model(sample)  # trace.logits["class"], trace.calls[3].weights(heads=[2], rows=[17])
map = attnviz.explain("rollout", model, sample)  # [token]: which patches the answer came from
attnviz.show(model, sample)  # in a notebook: every head, hover-linked; .save("heads.html") makes a file of it
without = model(sample, edit=attnviz.interventions.remove(sample, [40, 41]))  # and without two of them

bert = attnviz.from_transformers(network, tokenizer)  # or attnviz.load("path/to/folder"), attnviz.load("hf:owner/name")
with attnviz.record(module) as calls:  # any other network of PyTorch
    module(x)
"""

from attnviz import interventions
from attnviz.attention import POSITIONS, VARIANTS
from attnviz.edits import Edit
from attnviz.hub import from_transformers, load, record
from attnviz.methods import METHODS, explain
from attnviz.models import MODELS
from attnviz.notebook import show
from attnviz.types import Target

__all__ = [
    "METHODS",
    "MODELS",
    "POSITIONS",
    "VARIANTS",
    "Edit",
    "Target",
    "explain",
    "from_transformers",
    "interventions",
    "load",
    "record",
    "show",
]
