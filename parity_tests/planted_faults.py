"""One-sided bugs of the kind that ports get wrong; parity_tests/faults.py plants each and the suite must fail.

Signs, factors of a half, mean for sum, variance for log variance, biased for unbiased, dropped terms, transposes, steps
off by one, detached gradients, the place of an epsilon, single-precision leaks, wrong axes, swapped arguments of the
KL, stale parameters in the M step, missing symmetrisation. A line a fault, however long: what it is, what stands in the
file, and what is put there.
"""

from parity_tests.faults import Fault

# fmt: off
_PLANTED = {
    "pytorch_impl/coin.py": (
        ("tails weighed like heads", "+ tails * torch.log1p", "+ heads * torch.log1p"),
        ("log(1 - theta) as log(theta)", "torch.log1p(chance_of_tails_less_one)", "torch.log(-chance_of_tails_less_one)"),
        ("the Beta function without its denominator", "torch.lgamma(b) - torch.lgamma(a + b)", "torch.lgamma(b)"),
        ("the density's exponents not less one", "sequence_log_probability(a - 1, b - 1, theta)", "sequence_log_probability(a, b, theta)"),
        ("a later toss seen before it is predicted", "torch.cumsum(tosses, dim=0) - tosses", "torch.cumsum(tosses, dim=0)"),
        ("MAP at the posterior mean", "torch.relu(a - 1), torch.relu(b - 1)", "torch.relu(a), torch.relu(b)"),
    ),
    "tf2_impl/coin.py": (
        ("evidence without the prior's normaliser", "log_beta(a + heads, b + tails) - log_beta(a, b)", "log_beta(a + heads, b + tails)"),
        ("prediction from the prior alone", "a, b = posterior(heads, tails, a, b)\n    return a / (a + b)", "return a / (a + b)"),
        ("orders counted with lgamma(n)", "tf.math.lgamma(new_heads + new_tails + 1)", "tf.math.lgamma(new_heads + new_tails)"),
        ("MLE against the tails alone", "return heads / (heads + tails)", "return heads / tails"),
    ),
    "pytorch_impl/gaussian.py": (
        ("log determinant of the factor, not of its square", "log_determinant = 2 * torch", "log_determinant = torch"),
        ("unbiased covariance", "difference.T @ difference / x.shape[0]", "difference.T @ difference / (x.shape[0] - 1)"),
        ("a half lost in the gradient", "return 0.5 * torch.cholesky_solve", "return torch.cholesky_solve"),
        ("density with a standard deviation for the variance", "torch.square(x - mean) / variance", "torch.square((x - mean) / variance)"),
    ),
    "tf2_impl/gaussian.py": (
        ("solves with the transposed factor", "tf.transpose(x - mean), lower=True)", "tf.transpose(x - mean), lower=True, adjoint=True)"),
        ("mean for sum in the log likelihood", "return tf.reduce_sum(log_density(x, mean, covariance))", "return tf.reduce_mean(log_density(x, mean, covariance))"),
        ("one dimension's constant", "x.shape[1] * math.log(2 * math.pi)", "math.log(2 * math.pi)"),
        ("the gradient misses N Sigma", "- x.shape[0] * covariance  # (D, D)", "- covariance  # (D, D)"),
    ),
    "pytorch_impl/gmm.py": (
        ("quadratic form without its half", "return -0.5 * (d * math.log(2 * math.pi) + log_determinant + squared_length)  # (N, K)", "return -0.5 * (d * math.log(2 * math.pi) + log_determinant) - squared_length  # (N, K)"),
        ("variance for deviation on the diagonal", "squared_length = (torch.square(difference) / variances)", "squared_length = (torch.square(difference) / torch.square(variances))"),
        ("weights without their logarithm", "return torch.log(weights) + component_log_densities(x, means, covariances, covariance_type)  # (N, K)", "return weights + component_log_densities(x, means, covariances, covariance_type)  # (N, K)"),
        ("responsibilities normalised over points", "log_density = torch.logsumexp(joint, dim=1)  # (N,)\n    return log_density, torch.exp(joint - log_density[:, None])", "log_density = torch.logsumexp(joint, dim=1)  # (N,)\n    return log_density, torch.softmax(joint, dim=0)"),
        ("scatter around the grand mean", "difference = (x[:, None, :] - means).transpose(0, 1)  # (K, N, D)", "difference = (x[:, None, :] - x.mean(dim=0).expand_as(means)).transpose(0, 1)  # (K, N, D)"),
        ("scatter not made symmetric", "scatter = 0.5 * (scatter + scatter.mT)\n", "scatter = torch.tril(scatter) + 1.000000001 * torch.triu(scatter, 1)\n"),
        ("sample weights forgotten in the objective", "total = (log_density if sample_weight is None else sample_weight * log_density).sum()", "total = log_density.sum()"),
        ("a tied covariance averaged without weights", "scatter.sum(dim=0) / counts.sum() + regularisation", "(scatter / counts[:, None, None]).mean(dim=0) + regularisation"),
        ("samples from the transposed factor", "factor[z] @ noise[:, :, None]", "factor[z].mT @ noise[:, :, None]"),
        ("the component that is drawn one too early", "uniforms, right=True)", "uniforms)"),
        ("no epsilon in the counts", " + 10 * torch.finfo(x.dtype).eps  # (K,)", "  # (K,)"),
        ("single precision in the middle", "gamma = e_step(x, weights, means, covariances, covariance_type)", "gamma = (t.float().to(x.dtype) for t in e_step(x, weights, means, covariances, covariance_type))"),
    ),
    "tf2_impl/gmm.py": (
        ("regularisation added twice", "scatter / counts[:, None, None] + regularisation", "scatter / counts[:, None, None] + 2 * regularisation"),
        ("spherical variance as a sum", "tf.reduce_mean(variances, axis=1)", "tf.reduce_sum(variances, axis=1)"),
        ("the diagonal's determinant halved", "log_determinant = tf.reduce_sum(tf.math.log(variances), axis=-1)", "log_determinant = 0.5 * tf.reduce_sum(tf.math.log(variances), axis=-1)"),
        ("variances for deviations in sampling", "deviations = tf.sqrt(tf.broadcast_to(tf.reshape(covariances, (k, -1)), (k, d)))", "deviations = tf.broadcast_to(tf.reshape(covariances, (k, -1)), (k, d))"),
        ("weights that do not sum to one", "weights = counts / tf.reduce_sum(counts)", "weights = counts / x.shape[0]"),
        ("no gradient through the responsibilities", "tf.exp(joint - log_density[:, None])  # (N,), (N, K)", "tf.stop_gradient(tf.exp(joint - log_density[:, None]))  # (N,), (N, K)"),
        ("stale means in the M step", "means = tf.matmul(responsibilities, x, transpose_a=True) / counts[:, None]  # (K, D)\n    difference = tf.transpose(x[:, None, :] - means, (1, 0, 2))", "means = tf.matmul(responsibilities, x, transpose_a=True) / counts[:, None]  # (K, D)\n    difference = tf.transpose(x[:, None, :] - (means + 1e-6), (1, 0, 2))"),
    ),
    "pytorch_impl/coin_mixture.py": (
        ("hidden coins: tails are all the tosses", "tails = tosses - heads  # (N,)", "tails = tosses  # (N,)"),
        ("biases by the count of points, not of tosses", "expected_tosses = responsibilities.T @ tosses  # (K,)", "expected_tosses = responsibilities.sum(dim=0)  # (K,)"),
    ),
    "tf2_impl/coin_mixture.py": (
        ("fixed weights that move", "(weights if fixed_weights else new_weights, new_biases)", "(new_weights, new_biases)"),
        ("an empty coin lands on zero", "0.5 * one, expected_heads", "0.0 * one, expected_heads"),
    ),
    "pytorch_impl/em.py": (
        ("the sign of the divergence", "return -lower_bound(q, log_posterior)", "return lower_bound(q, log_posterior)"),
        ("the entropy dropped from the bound", "return (q * log_ratio).sum()", "return (q * torch.where(possible, log_joint, 0.0)).sum()"),
        ("prior counts not less one", "counts + prior.concentration - 1  # (K,)", "counts + prior.concentration  # (K,)"),
        ("the inverse Wishart's mean for its mode", "(nu + counts + d + 2)[:, None, None]", "(nu + counts - d)[:, None, None]"),
        ("the prior's pull on the mean dropped from the scatter", "scatter = prior.scale + scatter + kappa * shift[:, :, None] * shift[:, None, :]", "scatter = prior.scale + scatter"),
        ("the power of pi in the multivariate gamma", "0.25 * d * (d - 1) * math.log(math.pi)", "0.5 * d * (d - 1) * math.log(math.pi)"),
    ),
    "tf2_impl/em.py": (
        ("the objective without its prior", "objective = tf.reduce_sum(log_density) + log_prior(weights, means, covariances, prior)", "objective = tf.reduce_sum(log_density)"),
        ("the Dirichlet's normaliser upside down", "normaliser = tf.math.lgamma(tf.reduce_sum(concentration)) - tf.reduce_sum(tf.math.lgamma(concentration))", "normaliser = tf.reduce_sum(tf.math.lgamma(concentration)) - tf.math.lgamma(tf.reduce_sum(concentration))"),
        ("the precision of the mean multiplied", "covariances / prior.mean_precision)[0]", "covariances * prior.mean_precision)[0]"),
        ("the mean not pulled to the prior's", "(kappa * prior.mean + sums) / (kappa + counts)[:, None]", "sums / counts[:, None]"),
    ),
    "pytorch_impl/missing_data.py": (
        ("imputed variance dropped", "scatter = weighted.mT @ difference + unexplained  # (K, D, D)", "scatter = weighted.mT @ difference  # (K, D, D)"),
        ("all features counted as observed", "return -0.5 * (n_observed * math.log(2 * math.pi)", "return -0.5 * (x.shape[1] * math.log(2 * math.pi)"),
        ("gaps filled with the mean, not the regression", "completed = torch.where(observed[:, None, :], x[:, None, :], regression)", "completed = torch.where(observed[:, None, :], x[:, None, :], means)"),
    ),
    "tf2_impl/missing_data.py": (
        ("imputation overwrites what was observed", "return tf.where(observed, x, expected)", "return expected"),
        ("drawn without the noise of the conditional", "drawn = completed + tf.linalg.matvec(factor, noise)", "drawn = completed"),
        ("conditional covariance with the wrong sign", "remainder = covariances - tf.matmul(w, w, transpose_a=True)", "remainder = covariances + tf.matmul(w, w, transpose_a=True)"),
    ),
    "pytorch_impl/singularity.py": (
        ("the exponent 1/2 for D/2", "return -0.5 * d * torch.log(2 * math.pi * torch.square(deviations))", "return -0.5 * torch.log(2 * math.pi * torch.square(deviations))"),
    ),
    "tf2_impl/singularity.py": (
        ("regularised by a deviation", "tf.sqrt(tf.square(deviations) + reg_covar)", "deviations + reg_covar"),
        ("the penalty with the wrong sign", "+ log_prior(*mixture, prior)", "- log_prior(*mixture, prior)"),
    ),
    "pytorch_impl/elbo.py": (
        ("KL with its half lost", "return 0.5 * (torch.square(mean) + torch.expm1(log_var) - log_var).sum(dim=-1)", "return (torch.square(mean) + torch.expm1(log_var) - log_var).sum(dim=-1)"),
        ("KL that cancels near the prior", "torch.square(mean) + torch.expm1(log_var) - log_var", "torch.square(mean) + torch.exp(log_var) - 1 - log_var"),
        ("KL(p || q) for KL(q || p)", "log_ratio = log_var_q - log_var_p  # (N, L)", "log_ratio = log_var_p - log_var_q  # (N, L)"),
        ("variance where the deviation belongs", "return mean + torch.exp(0.5 * log_var) * noise", "return mean + torch.exp(log_var) * noise"),
        ("a sample that is not reparameterised", "return mean + torch.exp(0.5 * log_var) * noise", "return (mean + torch.exp(0.5 * log_var) * noise).detach()"),
        ("the Gaussian's constant dropped", "math.log(2 * math.pi) + log_var + squared_error", "log_var + squared_error"),
        ("mean over features for their sum", "return log_probability.sum(dim=-1)", "return log_probability.mean(dim=-1)"),
        ("the importance bound without log S", "torch.logsumexp(log_weights, dim=0) - math.log(log_weights.shape[0])", "torch.logsumexp(log_weights, dim=0)"),
    ),
    "tf2_impl/elbo.py": (
        ("KL added to the bound", "tf.reduce_mean(reconstruction - kl)", "tf.reduce_mean(reconstruction + kl)"),
        ("KL with the squared mean lost", "tf.square(mean) + tf.math.expm1(log_var) - log_var", "tf.math.expm1(log_var) - log_var"),
        ("log(1 + exp) of the wrong sign", "tf.math.log1p(tf.exp(-magnitude))", "tf.math.log1p(tf.exp(magnitude))"),
        ("precision for variance", "squared_error * tf.exp(-log_var)", "squared_error * tf.exp(log_var)"),
        ("averaged over the weights, not the draws", "log_weights, axis=0)", "log_weights, axis=1)"),
        ("the proposal's density not subtracted", "- gaussian_log_likelihood(z, mean, log_var)", "+ 0 * gaussian_log_likelihood(z, mean, log_var)"),
    ),
    "pytorch_impl/networks.py": (
        ("the log variance from the mean's head", "self.log_var(hidden)  # (N, L), (N, L)", "self.mean(hidden)  # (N, L), (N, L)"),
        ("no bend in the decoder", "hidden = self.activation(self.hidden(z))  # (N, H)", "hidden = self.hidden(z)  # (N, H)"),
    ),
    "tf2_impl/networks.py": (
        ("an activation applied twice", "hidden = self.activation(self.hidden(x))  # (N, H)", "hidden = self.activation(self.activation(self.hidden(x)))  # (N, H)"),
    ),
    "pytorch_impl/vae.py": (
        ("the loss is the bound, not its negative", "torch.autograd.grad(-bound.elbo", "torch.autograd.grad(bound.elbo"),
        ("log variance of a fixed variance without its logarithm", "torch.tensor(math.log(variance)", "torch.tensor((variance)"),
    ),
    "tf2_impl/vae.py": (
        ("the encoder gets no gradient", "z = reparameterize(mean, log_var, noise)  # (N, L)", "z = tf.stop_gradient(reparameterize(mean, log_var, noise))  # (N, L)"),
        ("noise scaled down", "z = reparameterize(mean, log_var, noise)  # (N, L)", "z = reparameterize(mean, log_var, 0.999999 * noise)  # (N, L)"),
        ("the bound's sign in the loss", "loss = -bound.elbo", "loss = bound.elbo"),
    ),
    "pytorch_impl/optimizer.py": (
        ("epsilon inside the root", "(torch.sqrt(corrected_second) + epsilon)", "torch.sqrt(corrected_second + epsilon)"),
        ("no bias correction of the second moment", "corrected_second = second_moment / (1 - beta_2**step)", "corrected_second = second_moment"),
        ("the step counted from zero", "self.step += 1\n", ""),
        ("a coarser grid", "GRADIENT_BITS = 11", "GRADIENT_BITS = 10"),
    ),
    "tf2_impl/optimizer.py": (
        ("the second moment of the gradient, not of its square", "(1 - beta_2) * (gradient * gradient)", "(1 - beta_2) * tf.abs(gradient)"),
        ("betas in single precision", "second_moment = beta_2 * second_moment + (1 - beta_2)", "second_moment = beta_2 * second_moment + (1 - 0.9990000128746033)"),
        ("Keras's epsilon", "epsilon: float = 1e-8,\n) -> tuple", "epsilon: float = 1e-7,\n) -> tuple"),
        ("parameters not rounded", "updated = round_to_float32(updated)", "pass"),
    ),
    "pytorch_impl/train_vae.py": (
        ("the order of another step", "rows = draws.minibatch(options.seed, step - 1,", "rows = draws.minibatch(options.seed, step,"),
    ),
    "tf2_impl/train_vae.py": (
        ("the noise of another step", 'noise_for("noise", len(rows), step)', 'noise_for("noise", len(rows), step - 1)'),
    ),
}
FAULTS = [Fault(file, *fault) for file, faults in _PLANTED.items() for fault in faults]
