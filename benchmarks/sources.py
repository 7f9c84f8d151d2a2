"""`python -m benchmarks.sources`: how well the two sources of photographs can be told apart without looking at content.

A linear classifier sees only how much of each spatial frequency is in a picture, for brightness and both colours. What
it tells apart, a network tells apart too, and then answers by source. 0.5 is chance; content differs as well, so that
chance is not to be reached. `uploads` are pictures from the larger archive, made small as the app makes them.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attnviz.models.image import downscale
from attnviz.training.images.data import NoData, blur, data_folder, encode_jpeg, halve, read_sheets

COUNT = 3000  # pictures of each source
BANDS = [2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 46]  # cycles per picture
Images = UInt8[np.ndarray, "picture height width channel"]


def spectra(images: Images) -> Float[np.ndarray, "picture band"]:
    """Log power in each band, of brightness and both colours."""
    planes = np.stack([np.asarray(Image.fromarray(image).convert("YCbCr")) for image in images]).astype(float)
    side = planes.shape[1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    waves = np.fft.fftfreq(side) * side
    distance = np.hypot(waves[:, None], waves)
    columns = []
    for plane in np.moveaxis(planes, -1, 0):
        power = abs(np.fft.fft2((plane - plane.mean((1, 2), keepdims=True)) * window)) ** 2
        for low, high in pairwise(BANDS):
            columns.append(np.log1p(power[:, (distance >= low) & (distance < high)].mean(1)))
    return np.stack(columns, 1)


def separability(first: Images, second: Images) -> float:
    """Area under the ROC curve on the third of the pictures that the classifier was not fitted to."""
    features = np.concatenate([spectra(first), spectra(second)])
    source = np.repeat([0, 1], [len(first), len(second)])
    order = np.random.default_rng(1).permutation(len(source))
    fit, held = np.split(order, [2 * len(order) // 3])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[fit], source[fit])
    return float(roc_auc_score(source[held], probe.decision_function(features[held])))


def main() -> int:
    """Print one line for each way of preparing them."""
    try:
        folder = data_folder()
        tiny, large = (
            read_sheets(folder / name, "train")[0] for name in ("tinyimagenet120_64.tar", "imagenette_128.tar")
        )
    except NoData as error:
        sys.stderr.write(f"{error}\n")
        return 2
    random = np.random.default_rng(0)
    tiny, large = (images[random.choice(len(images), COUNT, replace=False)] for images in (tiny, large))
    uploads = np.stack([np.asarray(downscale(Image.fromarray(image), 64)) for image in large])
    ways = {
        "as they come": (tiny, halve(large)),
        "coded alike": (encode_jpeg(tiny), encode_jpeg(halve(large))),
        "equally sharp and coded alike": (encode_jpeg(blur(tiny)), encode_jpeg(halve(large))),
        "the same, uploads": (encode_jpeg(blur(tiny)), encode_jpeg(uploads)),
    }
    sys.stdout.write("| prepared | told apart (area under ROC) |\n|---|---|\n")
    for name, (first, second) in ways.items():
        sys.stdout.write(f"| {name} | {separability(first, second):.3f} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
