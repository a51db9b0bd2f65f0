"""The chapters of the book, in reading order. The one place to add a new one."""

# part -> module -> title. Every pair of files is here or in NOT_CHAPTERS, or the book is not built.
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
# Why a public function has no measured difference, neither of its own nor of a function that uses it.
NOT_MEASURED = {"distributed.join": "it connects processes and returns no number"}
NOT_CHAPTERS = ("estimators", "keras_training", "backend", "train_gmm", "train_vae")


def titles() -> dict[str, str]:
    """The chapters' titles by module name, in reading order."""
    return {name: title for part in PARTS.values() for name, title in part.items()}
