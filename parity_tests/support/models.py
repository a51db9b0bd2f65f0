"""The same model in both frameworks, and what every model is held to: gradients, updates, the bound."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from common import draws
from parity_tests.conftest import Parity
from parity_tests.support.frameworks import arrays, in_mode, pair, sibling, tensors

LAYOUTS, NETWORKS = pair("layouts"), pair("networks")
Batch = tuple[np.ndarray, np.ndarray]  # images and noise


def same(page: str, name: str, seed: int = 0, biases: bool = False, **arguments: Any) -> list:
    """A page's model in both frameworks: parameters drawn once, copied, and the copy asserted.

    Biases are zero, as at the start of training, or drawn as well: a zero hides where it went.
    """
    models = [getattr(module, name)(**arguments) for module in pair(page)]
    shapes = {name: value.shape for name, value in LAYOUTS[0].export_parameters(models[0]).items()}
    values = draws.initial_values(seed, shapes)
    for index, name in enumerate(values):
        if biases and name.endswith(".bias"):
            drawn = 0.1 * draws.normals(seed, "sample", shapes[name], 1000 + index)
            values[name] = drawn.astype(np.float32).astype(np.float64)
    for layouts, model in zip(LAYOUTS, models, strict=True):
        layouts.import_parameters(model, values)
        exported = layouts.export_parameters(model)
        assert list(exported) == list(values)
        for name, value in exported.items():
            assert value.dtype == np.dtype(arguments.get("dtype", "float32"))
            np.testing.assert_array_equal(value, values[name])
    return models


def canonical(layouts: ModuleType, gradients: dict) -> dict[str, np.ndarray]:
    """Tensors of named parameters as arrays of one layout."""
    return {name: layouts.canonical(name, value) for name, value in gradients.items()}


def steps(models: Sequence, mode: str) -> list[Callable]:
    """Functions of a batch that give both models' terms and gradients, also as canonical arrays."""
    run = [in_mode(n, partial(n.loss_and_gradients, m), mode) for n, m in zip(NETWORKS, models, strict=True)]
    return [lambda batch, n=n, f=f: f(*tensors(n, *batch)) for n, f in zip(NETWORKS, run, strict=True)]


def check_gradients(
    parity: Parity, models: Sequence, batch: Batch, quantity: str, kind: str, label: str, mode: str
) -> None:
    """The terms of the objective, as this quantity, and every gradient tensor agree."""
    (terms, ours), (tf_terms, theirs) = (step(batch) for step in steps(models, mode))
    for name, a, b in zip(terms._fields, terms, tf_terms, strict=True):
        parity.check(quantity, "loss", a, b, f"{label} {name}", mode)
    ours, theirs = canonical(LAYOUTS[0], ours), canonical(LAYOUTS[1], theirs)
    assert list(ours) == list(theirs) == list(LAYOUTS[0].named_parameters(models[0]))
    for name, gradient in ours.items():
        assert np.any(gradient != 0), f"{name} has no gradient"
        part = name.partition(".")[0]
        parity.check(f"gradients of the {part}", kind, gradient, theirs[name], f"{label} {name}", mode)


def check_outputs(
    parity: Parity, page: str, models: Sequence, batch: Batch, quantity: str, label: str, mode: str
) -> None:
    """The models' outputs, codes' means and log variances, codes and decoded codes agree."""
    z = draws.normals(0, "prior", (len(batch[0]), models[0].config["latent_dim"])).astype(batch[0].dtype)
    results = []
    for module, model in zip(pair(page), models, strict=True):
        inputs = batch if model.noise_dim else batch[:1]
        run = in_mode(module, lambda z, *inputs, m=model: (m(*inputs), m.encode(inputs[0]), m.decode(z)), mode)
        results.append(arrays(run(*tensors(module, z, *inputs))))
    outputs = [f"{quantity} {part}" for part in ("output", "mean", "log_var")[: len(results[0]) - 2]]
    name = type(models[0]).__name__
    for what, ours, theirs in zip((*outputs, f"{name}.encode", f"{name}.decode"), *results, strict=True):
        parity.check(what, "output", ours, theirs, label, mode)


def check_updates(
    parity: Parity, models: Sequence, batches: Any, term: str, number: int, label: str, mode: str
) -> list:
    """Trainings of so many updates agree, each on its own path; returns PyTorch's term at every update."""
    adams = [o.Adam(page.named_parameters(m)) for o, page, m in zip(pair("optimizer"), LAYOUTS, models, strict=True)]
    both, found = steps(models, mode), []
    for step in range(number):
        terms, gradients = zip(*(run(batches[step]) for run in both), strict=True)
        found.append([float(getattr(t, term)) for t in terms])
        for adam, gradient in zip(adams, gradients, strict=True):
            adam.update(gradient)
    worst = max(found, key=lambda values: abs(values[0] / values[1] - 1))
    parity.check(f"{term}, worst of {number} updates", "trajectory loss", *map(np.array, worst), label, mode, number)
    values = [page.export_parameters(m) for page, m in zip(LAYOUTS, models, strict=True)]
    parity.check(f"weights after {number} updates", "trajectory weights", *values, "", mode, number)
    return [values[0] for values in found]


def check_forced_updates(
    parity: Parity, models: Sequence, batches: Any, term: str, kind: str, number: int, mode: str
) -> None:
    """Each update starts from PyTorch's parameters, so that single steps are compared, without chaos."""
    adam, both = pair("optimizer")[0].Adam(LAYOUTS[0].named_parameters(models[0])), steps(models, mode)
    for step in range(number):
        LAYOUTS[1].import_parameters(models[1], LAYOUTS[0].export_parameters(models[0]))
        (terms, ours), (tf_terms, theirs) = (run(batches[step]) for run in both)
        adam.update(ours)
        if step % 25 == 24:
            label = f"after {step + 1}"
            values = getattr(terms, term), getattr(tf_terms, term)
            parity.check(f"{term}, teacher forced", "loss", *values, label, mode, number)
            tf_gradients = canonical(LAYOUTS[1], theirs)
            for name, gradient in canonical(LAYOUTS[0], ours).items():
                tensor = f"{label} {name}"
                parity.check("gradients, teacher forced", kind, gradient, tf_gradients[name], tensor, mode, number)


def check_central_differences(module: ModuleType, model: Any, batch: Batch) -> None:
    """Every gradient tensor, in a drawn direction, is the difference of two losses."""
    layouts, (x, noise) = sibling(module, "layouts"), tensors(module, *batch)
    values = layouts.export_parameters(model)
    gradients = canonical(layouts, sibling(module, "networks").loss_and_gradients(model, x, noise)[1])
    for index, (name, gradient) in enumerate(gradients.items()):
        direction = draws.normals(1, "sample", (gradient.size or 1,), index).reshape(gradient.shape)
        losses = []
        for h in (1e-6, -1e-6):
            layouts.import_parameters(model, values | {name: values[name] + h * direction})
            losses.append(-float(arrays(model.objective(x, noise))[0]))
        layouts.import_parameters(model, values)
        numeric = (losses[0] - losses[1]) / 2e-6
        assert np.sum(gradient * direction) == pytest.approx(numeric, rel=1e-6, abs=1e-6), name


def check_bound(module: ModuleType, model: Any, x: np.ndarray) -> tuple[float, float]:
    """With one latent dimension, E_noise[ELBO] + KL(q || p(z|x)) = log p(x), by quadrature; gives ELBO and log p(x).

    The expectation over the noise is Gauss and Hermite's, through the model's own `elbo`.
    """
    z = np.linspace(-10, 10, 20_001)
    repeated, codes, image = tensors(module, np.repeat(x, len(z), axis=0), z[:, None], x)
    log_joint = arrays(model.log_likelihood(repeated, model.decoder(codes)))[0] + stats.norm.logpdf(z)
    evidence = np.log(integrate.simpson(np.exp(log_joint - log_joint.max()), x=z)) + log_joint.max()
    mean, log_var = (array[0, 0] for array in arrays(model.encoder(image)))
    q = stats.norm(mean, np.exp(log_var / 2))
    to_posterior = integrate.simpson(q.pdf(z) * (q.logpdf(z) - log_joint + evidence), x=z)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    bounds = [arrays(model.elbo(image, *tensors(module, [[node]])))[0] for node in nodes]
    elbo = np.sum(weights * bounds) / np.sqrt(2 * np.pi)
    assert to_posterior > 0
    assert elbo + to_posterior == pytest.approx(evidence, rel=1e-9)
    return elbo, evidence


def check_refused(module: ModuleType, name: str, arguments: dict, message: str) -> None:
    """A model that cannot be built is refused in one line that begins so."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        getattr(module, name)(**arguments)
    assert "\n" not in str(error.value)
