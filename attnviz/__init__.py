"""See what every attention head of a real trained model does with your picture.

model = attnviz.load("vit")
sample = model.prepare(Image.open("dog.jpg"))
trace = model(sample)  # trace.logits["class"], trace.calls[3].weights(heads=[2], rows=[17])
"""

from attnviz.models import MODELS, load

__all__ = ["MODELS", "load"]
