"""The pages of the book, in reading order. The one place to add a new one."""

# part -> module -> title. Every pair of files is here, in HOUSE or in NOT_CHAPTERS, or the book is not built.
PARTS = {
    "Nothing is hidden": {"coin": "The coin", "gaussian": "The Gaussian"},
    "A choice is hidden": {
        "gmm": "Mixtures of Gaussians",
        "coin_mixture": "Which coin was tossed?",
        "em": "EM in general",
        "missing_data": "Missing data",
        "singularity": "Singularities",
        "conjugate": "Conjugate priors",
        "variational_gmm": "The Bayesian mixture",
    },
    "A continuum is hidden": {
        "elbo": "The evidence lower bound",
        "layouts": "Layouts",
        "networks": "Encoder and decoder",
        "convolution": "Convolution",
        "autoencoder": "The plain autoencoder",
        "vae": "The variational autoencoder",
    },
    "The climb": {
        "natural_parameters": "Natural parameters",
        "gmm_statistics": "EM on sufficient statistics",
        "distributed": "Several workers",
        "optimizer": "Adam",
        "log_factorials": "Large counts",
    },
}
# The pairs around the chapters: pages too, with no measurements of their own.
HOUSE = {
    "estimators": "The estimators",
    "algorithms": "The mixtures' algorithms",
    "network_run": "A network in training",
    "train_gmm": "Training a mixture",
    "train_vae": "Training a VAE",
}
NOT_CHAPTERS = ("keras_training", "graphs", "backend", "cuda")
# Pages from Markdown in pages/.
TEXTS = {
    "Using it": {
        "mixtures": "Mixtures in your own code",
        "scripts": "The training scripts",
        "files": "Your own data",
        "porting": "Porting a model",
        "adding": "Adding a pair",
        "commands": "Commands",
        "glossary": "Symbols and words",
    },
    "Where they differ": {
        "divergences": "The ten that will bite you first",
        "divergences_optimizers": "Optimizers",
        "divergences_layers": "Layers, layouts and shapes",
        "divergences_images": "Images",
        "divergences_sequences": "Sequences",
        "divergences_activations": "Activation functions",
        "divergences_losses": "Losses",
        "divergences_random_numbers": "Random numbers, number types and execution",
        "divergences_linear_algebra": "Linear algebra",
        "divergences_edge_gradients": "Values and gradients at the edge",
        "divergences_tensor_functions": "Tensor functions",
    },
    "Measured": {
        "rounding": "How small is small enough?",
        "hash": "One hash",
        "comparison": "The punch line, measured",
        "fashion": "Fashion-MNIST, all 60,000 images",
        "speed": "Large data, and fast",
        "port_bugs": "Port bugs, planted",
        "certificate": "The certificate",
        "hostile": "Hostile input",
        "versions": "Versions",
    },
}
# Pages that import no chapter, so that any chapter may use them. The first two are pages of the book as well.
TOOLS = ("log_factorials", "distributed", "backend")
# Why a public function has no measured difference, nor any function that uses it.
NOT_MEASURED = {"distributed.join": "it connects processes and returns no number"}
# What examples, exercises and notebooks call by one name in both frameworks.
NAMES = {
    "torch": """
import torch

def tensor(array, dtype=torch.float64):
    return torch.tensor(array, dtype=dtype)

def detached(value):
    return value.detach()

boolean = torch.bool""",
    "tf2": """
import tensorflow as tf

def tensor(array, dtype=tf.float64):
    return tf.constant(array, dtype=dtype)

def detached(value):
    return value

boolean = tf.bool""",
}


def titles() -> dict[str, str]:
    """The chapters' titles by module name, in reading order."""
    return {name: title for part in PARTS.values() for name, title in part.items()}
