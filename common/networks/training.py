"""Where networks start, and their training in memory, for a figure or a comparison: no run folder, no options.

``maths`` holds an implementation's modules by name, with ``networks``, ``optimizer`` and ``backend`` among them.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from common import draws
from common.data import datasets

ROWS_FOR_COMPONENTS = 1000  # enough for the variance that they leave, and soon computed
EPOCHS = 40  # of the networks in figures
LEAST_VARIANCE = 1e-6  # where all images are equal


def set_start(maths: SimpleNamespace, model: Any, seed: int, x: np.ndarray) -> None:
    """Give a Gaussian model the parameters that it starts from on training images x (N, D)."""
    shapes = {name: value.shape for name, value in maths.networks.export_parameters(model).items()}
    maths.networks.import_parameters(model, draws.initial_values(seed, shapes) | gaussian_start(shapes, x))


def gaussian_start(shapes: Mapping[str, tuple[int, ...]], x: np.ndarray) -> dict[str, np.ndarray]:
    """Where a Gaussian decoder's offset and learned log variance start: at what training images x (N, D) say.

    The offset of a dense one starts at the mean image, and the variance, one or one for each pixel, at what L principal
    components leave of the pixels' variance, L being the size of the code: at that of a linear VAE (probabilistic PCA).
    A variance of 1, hundreds of times too wide for pixels in [0, 1], makes every image as likely as every other; the
    code is given up before Adam, which moves a log variance by at most the learning rate an update, has narrowed it.

    Chosen by the ELBO of held-out images, nats per image, dense networks and one variance at train_vae's defaults:

                                                digits, 240 updates    1,008 updates    fashion, 800 updates
        from 1                                                -54.0             -33.1                  -443.1
        from the pixels' variance                               7.8             18.4                    265.0
        from what the components leave                         15.9             21.4                    301.3
        closed form, of each batch                             15.0             22.0                   306.6
        from the pixels' variance, rate times 10               16.3             22.1                   313.7

    (One seed; the offset starts at zero in the rows "from 1" and "closed form", and in the last number.) The last two
    are worth a nat on the digits and up to twelve on the clothes, but take more: a batch's variance is not a
    parameter and must be found anew for held-out images (Rybkin et al., "Simple and effective VAE training with
    calibrated decoders", ICML 2021, section 3.2), and a second rate is one more thing to tune. The start is computed in
    NumPy, and checkpoints stay what they were.
    """
    starts = {"decoder.out.bias": x.mean(axis=0, dtype=np.float64)}
    if "log_var" in shapes:
        left = variance_left(x, shapes["decoder.hidden.weight"][1])  # (D,)
        starts["log_var"] = np.log(left if shapes["log_var"] else left.mean())
    return {
        name: np.broadcast_to(value, shapes[name]).astype(np.float32).astype(np.float64)
        for name, value in starts.items() if name in shapes
    }  # fmt: skip


def variance_left(x: np.ndarray, components: int) -> np.ndarray:
    """The variance of each column of x (N, D) about its projection on the first principal components, (D,).

    Of a pixel that never changes, or where there are as many components as pixels, it is a hundredth of all pixels'
    mean variance: a smaller variance would dominate the loss at the start.
    """
    rows = np.linspace(0, len(x) - 1, min(len(x), ROWS_FOR_COMPONENTS)).astype(int)
    centred = np.asarray(x[rows], dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:components]  # (L, D)
    left = np.square(centred - (centred @ directions.T) @ directions).mean(axis=0)
    return np.maximum(left, max(np.square(centred).mean() / 100, LEAST_VARIANCE))


def updates(
    maths: SimpleNamespace, chapter: ModuleType, model: Any, batches: Iterable[tuple], learning_rate: float
) -> Iterator[float]:
    """One update of Adam per batch, reproducible; yields the objective of each, in nats per image.

    Over thousands of updates at a high rate, rounding alone parts two trainings; which epoch is best then differs too.

    ``chapter`` is ``maths.vae`` or ``maths.autoencoder``, and a batch the arrays that its ``loss_and_gradients`` takes.
    """
    optimizer = maths.optimizer.Adam(maths.networks.named_parameters(model), learning_rate, reproducible=True)
    step = maths.backend.compiled(lambda *batch: chapter.loss_and_gradients(model, *batch))
    for batch in batches:
        terms, gradients = step(*map(maths.backend.tensor, batch))
        optimizer.update(gradients)
        yield float(terms[0])


def trained(maths: SimpleNamespace, name: str) -> Any:
    """One of the networks that several figures show, all trained the first time."""
    if not hasattr(maths, "networks_in_figures"):
        maths.networks_in_figures = train_networks(maths)
    return maths.networks_in_figures[name]


def train_networks(maths: SimpleNamespace) -> dict[str, Any]:
    """A VAE with codes of two dimensions, of clothes; a VAE and a plain autoencoder with sixteen, of digits."""
    digits, clothes = (datasets.load(name).split()[0].x.astype(np.float64) for name in ("digits", "fashion"))

    def train(chapter: ModuleType, model: Any, x: np.ndarray, codes: int, rate: float) -> Any:
        set_start(maths, model, 0, x)
        for _ in updates(maths, chapter, model, batches(x, codes), rate):
            pass
        return model

    def batches(x: np.ndarray, codes: int) -> Iterator[tuple[np.ndarray, ...]]:
        for step in range(EPOCHS * draws.batches_per_epoch(len(x), 128)):
            rows = draws.minibatch(0, step, len(x), 128)
            yield (x[rows], *((draws.normals(0, "noise", (len(rows), codes), step),) if codes else ()))

    def vae(x: np.ndarray, codes: int, hidden_dim: int, activation: str) -> Any:
        return maths.vae.VAE(x.shape[1], codes, hidden_dim, activation, "gaussian", dtype="float64")

    plain = maths.autoencoder.Autoencoder(64, 16, 100, dtype="float64")
    return {
        "vae of 2": train(maths.vae, vae(clothes, 2, 200, "relu"), clothes, 2, 2e-3),
        "vae": train(maths.vae, vae(digits, 16, 100, "tanh"), digits, 16, 5e-3),
        "autoencoder": train(maths.autoencoder, plain, digits, 0, 5e-3),
    }
