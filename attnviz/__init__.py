"""See what every attention head of a real trained model does with your picture.

model = attnviz.load("vit")
sample = model.prepare("dog.jpg")  # or a PIL image, bytes, an array
trace = model(sample)  # trace.logits["class"], trace.calls[3].weights(heads=[2], rows=[17])
map = attnviz.explain("rollout", model, sample)  # [token]: which patches the answer came from
"""

from attnviz.attention import POSITIONS, VARIANTS
from attnviz.methods import METHODS, explain
from attnviz.models import MODELS, load

__all__ = ["METHODS", "MODELS", "POSITIONS", "VARIANTS", "explain", "load"]
