"""The chapters' figures of images and codes; the networks are trained once for all of them."""

from types import SimpleNamespace

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.special import ndtri

from common import draws
from common.data import datasets
from common.figures import runs
from common.figures.chapters import Evaluate
from common.figures.runs import STYLE, show_sheet
from common.networks.training import trained


@rc_context(STYLE)
def vae_manifold(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The decoder's images of a grid of codes, evenly spaced in the prior's probability, z = Φ^-1(u).

    Shirts and coats above on the left, trousers on the right, shoes and boots below; neighbours look alike.
    """
    codes, (height, width) = ndtri((np.arange(20) + 0.5) / 20), datasets.load("fashion").image_shape
    down, right = np.meshgrid(codes[::-1], codes, indexing="ij")
    images = evaluate(trained(maths, "vae of 2").decoder, np.stack([right.ravel(), down.ravel()], axis=1))
    axes = Figure(figsize=(5.6, 5.6)).subplots()
    show_sheet(axes, images, (height, width))
    places = np.round(np.linspace(0, 19, 6)).astype(int)  # symmetric about the middle
    labels = [f"{codes[place]:.1f}" for place in places]
    # image i covers the pixels from 1 + i (width + 1) on: a line of background lies between two
    axes.set_xticks(places * (width + 1) + (width + 1) / 2, labels)
    axes.set_yticks((19 - places) * (height + 1) + (height + 1) / 2, labels)
    axes.set(xlabel="code, dimension 1", ylabel="dimension 2", title="decoded grid, evenly spaced in probability")
    return axes.figure


def vae_latent_space(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The means of the held-out images' codes: a cloud for each class, clothes above, shoes and sandals below."""
    held_out = datasets.load("fashion").split()[1]
    codes = evaluate(trained(maths, "vae of 2").encoder, held_out.x.astype(np.float64))[0]
    return runs.latent_space(codes, held_out.labels, held_out.label_names)


def vae_reconstructions(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """Held-out images, one of each class, and their reconstructions from two numbers."""
    held_out, model = datasets.load("fashion").split()[1], trained(maths, "vae of 2")
    x = held_out.x[np.unique(held_out.labels, return_index=True)[1]].astype(np.float64)
    return runs.reconstructions(x, evaluate(model.decoder, evaluate(model.encoder, x)[0]), held_out.image_shape)


def vae_samples(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """The decoder's mean for codes drawn from the prior."""
    images = evaluate(trained(maths, "vae of 2").decoder, draws.normals(0, "prior", (100, 2)))
    return runs.samples(images, datasets.load("fashion").image_shape)


@rc_context(STYLE)
def samples_compared(maths: SimpleNamespace, evaluate: Evaluate) -> Figure:
    """Samples of the plain autoencoder, drawn in two ways, and of the VAE, with codes of 16 dimensions."""
    data, prior, plain = datasets.load("digits"), draws.normals(0, "prior", (64, 16)), trained(maths, "autoencoder")
    codes = evaluate(plain.encoder, data.split()[0].x)
    sheets = {
        "autoencoder, codes from N(0, I)": evaluate(plain.decoder, prior),
        "autoencoder, codes from a fitted Gaussian": evaluate(plain.decoder, draws.like(codes, 0, 64)),
        "VAE, codes from its prior N(0, I)": evaluate(trained(maths, "vae").decoder, prior),
    }
    figure = Figure(figsize=(12.6, 4.8))
    for axes, (title, images) in zip(figure.subplots(1, 3), sheets.items(), strict=True):
        show_sheet(axes, images, data.image_shape)
        axes.set_title(title)
    return figure
