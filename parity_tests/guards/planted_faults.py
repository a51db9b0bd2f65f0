"""One-sided bugs of the kind that ports get wrong; parity_tests/guards/faults.py plants each and the suite must fail.

Signs, factors of a half, mean for sum, variance for log variance, biased for unbiased, dropped terms, transposes, steps
off by one, detached gradients, the place of an epsilon, single-precision leaks, wrong axes, swapped arguments of the
KL, stale parameters in the M step, missing symmetrisation. A line a fault, however long: what it is, what stands in the
file, and what is put there.
"""

from parity_tests.guards.faults import Fault

# fmt: off
_PLANTED = {
    "pytorch_impl/coin.py": (
        ("tails weighed as all the tosses", "+ tails * torch.log1p", "+ (heads + tails) * torch.log1p"),
        ("log(1 - theta) as log(theta)", "torch.log1p(chance_of_tails_less_one)", "torch.log(-chance_of_tails_less_one)"),
        ("the Beta function without its powers", "return log_probability_by_odds(a, b, a, b) + log_beta_rest(a, b)", "return log_beta_rest(a, b)"),
        ("the density's exponents not less one", "sequence_log_probability(a - 1, b - 1, theta)", "sequence_log_probability(a, b, theta)"),
        ("a later toss seen before it is predicted", "torch.cumsum(tosses, dim=0) - tosses", "torch.cumsum(tosses, dim=0)"),
        ("MAP at the posterior mean", "torch.relu(a - 1), torch.relu(b - 1)", "torch.relu(a), torch.relu(b)"),
    ),
    "tf2_impl/coin.py": (
        ("evidence without the prior's normaliser", "log_beta_rest(alpha, beta) - log_beta_rest(a, b) - moved", "log_beta_rest(alpha, beta) - moved"),
        ("prediction from the prior alone", "a, b = posterior(heads, tails, a, b)\n    return a / (a + b)", "return a / (a + b)"),
        ("the density of one toss fewer", "as_binomial = tf.math.log(heads + tails + 1)", "as_binomial = tf.math.log(heads + tails)"),
        ("MLE against the tails alone", "return heads / (heads + tails)", "return heads / tails"),
    ),
    "pytorch_impl/log_factorials.py": (
        ("the series of the deviance cut short", "for i in range(1, 6))", "for i in range(1, 2))"),
        ("Stirling's third term off", "u * (1 / 360 - u", "u * (1 / 361 - u"),
        ("a step of the rising factorial too many", "(x + more - 1) * torch.log1p", "(x + more) * torch.log1p"),
    ),
    "tf2_impl/log_factorials.py": (
        ("orders counted with tails twice", "stirling_correction(heads) - stirling_correction(tails)", "stirling_correction(tails) - stirling_correction(tails)"),
        ("the digamma's second term off", "terms = 1 / 12 - u * (1 / 120", "terms = 1 / 12 - u * (1 / 121"),
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
        ("imputation overwrites what was observed", "return tf.where(observed, x, tf.concat(expected, axis=0))", "return tf.concat(expected, axis=0)"),
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
        ("deviations for variances in the evidence", "torch.diag(torch.exp(log_var).expand(x.shape[1]))", "torch.diag(torch.exp(0.5 * log_var).expand(x.shape[1]))"),
        ("the proposal's density added", "gaussian_log_likelihood(z, zeros, zeros) - gaussian", "gaussian_log_likelihood(z, zeros, zeros) + gaussian"),
        ("the Bernoulli's symmetric half lost", "- 0.5 * magnitude + functional", "+ functional"),
    ),
    "tf2_impl/elbo.py": (
        ("KL added to the bound", "tf.reduce_mean(reconstruction - kl)", "tf.reduce_mean(reconstruction + kl)"),
        ("KL with the squared mean lost", "tf.square(mean) + tf.math.expm1(log_var) - log_var", "tf.math.expm1(log_var) - log_var"),
        ("log(1 + exp) of the wrong sign", "tf.math.log1p(tf.exp(-magnitude))", "tf.math.log1p(tf.exp(magnitude))"),
        ("precision for variance", "squared_error * tf.exp(-log_var)", "squared_error * tf.exp(log_var)"),
        ("averaged over the weights, not the draws", "log_weights, axis=0)", "log_weights, axis=1)"),
        ("the proposal's density not subtracted", "- gaussian_log_likelihood(z, mean, log_var)", "+ 0 * gaussian_log_likelihood(z, mean, log_var)"),
        ("the distance in q's deviations", "tf.exp(-log_var_p)  # (N, L)", "tf.exp(-log_var_q)  # (N, L)"),
        ("no gradient to the deviation", "return mean + tf.exp(0.5 * log_var) * noise", "return mean + tf.stop_gradient(tf.exp(0.5 * log_var)) * noise"),
        ("the offset dropped from the evidence", "return log_density(x, offset, covariance)", "return log_density(x, tf.zeros_like(offset), covariance)"),
        ("the constant in single precision", "math.log(2 * math.pi) + log_var + squared_error", "tf.cast(math.log(2 * math.pi), x.dtype) + log_var + squared_error"),
    ),
    "pytorch_impl/networks.py": (
        ("the log variance from the mean's head", "self.log_var(hidden)  # (N, L), (N, L)", "self.mean(hidden)  # (N, L), (N, L)"),
        ("no bend in the decoder", "hidden = self.activation(self.hidden(z))  # (N, H)", "hidden = self.hidden(z)  # (N, H)"),
        ("parameters read in single precision", "return torch.tensor(array.copy(), dtype=like.dtype, device=like.device)", "return torch.tensor(array, dtype=torch.float32).to(like)"),
        ("what is exported shares memory with the model", ".numpy().copy()", ".numpy()"),
        ("a leaky relu", '"relu": torch.relu', '"relu": nn.functional.leaky_relu'),
    ),
    "tf2_impl/networks.py": (
        ("an activation applied twice", "hidden = self.activation(self.hidden(x))  # (N, H)", "hidden = self.activation(self.activation(self.hidden(x)))  # (N, H)"),
        ("height and width of the kernels exchanged", "CONVOLUTION = ((3,), (2,), (0,), (1,))", "CONVOLUTION = ((3,), (2,), (1,), (0,))"),
        ("a map flattened as TensorFlow does", '("hidden.weight", 4): ((3,), (2, 0, 1))', '("hidden.weight", 4): ((3,), (0, 1, 2))'),
        ("a map's bias in TensorFlow's order", '("features.bias", 3): ((2, 0, 1),)', '("features.bias", 3): ((0, 1, 2),)'),
        ("a transpose dropped on export", "value.numpy().transpose(sum(groups, ())).reshape(shape)", "value.numpy().reshape(shape)"),
        ("a transpose dropped on import", "array.reshape([like.shape[axis] for axis in axes]).transpose(np.argsort(axes))", "array.reshape(like.shape)"),
    ),
    "pytorch_impl/vae.py": (
        ("the loss is the bound, not its negative", "torch.autograd.grad(-bound.elbo", "torch.autograd.grad(bound.elbo"),
        ("log variance of a fixed variance without its logarithm", "torch.tensor(math.log(variance)", "torch.tensor((variance)"),
        ("codes without their noise", "z = mean if noise is None else reparameterize(mean, log_var, noise)  # (N, L)", "z = mean  # (N, L)"),
        ("logits shown for probabilities", 'return torch.sigmoid(output) if self.likelihood == "bernoulli" else output', "return output"),
        ("mean and log variance exchanged in the KL", "gaussian_kl_to_standard_normal(mean, log_var))", "gaussian_kl_to_standard_normal(log_var, mean))"),
    ),
    "tf2_impl/vae.py": (
        ("the encoder gets no gradient", "z = mean if noise is None else reparameterize(mean, log_var, noise)  # (N, L)", "z = mean if noise is None else tf.stop_gradient(reparameterize(mean, log_var, noise))  # (N, L)"),
        ("noise scaled down", "z = mean if noise is None else reparameterize(mean, log_var, noise)  # (N, L)", "z = mean if noise is None else reparameterize(mean, log_var, 0.999999 * noise)  # (N, L)"),
        ("the bound's sign in the loss", "loss = -bound.elbo", "loss = bound.elbo"),
        ("a variance through single precision", "self.log_var = tf.constant(math.log(variance), dtype)", "self.log_var = tf.cast(math.log(variance), dtype)"),
        ("a learned variance that starts at e", 'initializer="zeros"', 'initializer="ones"'),
    ),
    "pytorch_impl/optimizer.py": (
        ("epsilon inside the root", "/ (root + epsilon)", "/ torch.sqrt(root * root + epsilon)"),
        ("no bias correction of the second moment", "corrected_second = second_moment / corrections[1]", "corrected_second = second_moment"),
        ("the step counted from two", "bias_corrections(self.step, *self", "bias_corrections(self.step + 1, *self"),
        ("the fused update counted from nought", "p.new_tensor(self.step - 1.0", "p.new_tensor(self.step - 0.0"),
        ("a coarser grid", "GRADIENT_BITS = 11", "GRADIENT_BITS = 10"),
        ("the grid blind to the second moments", "largest = torch.maximum(largest, torch.sqrt(second_moment.amax()))", "pass"),
        ("subnormal parameters kept", "return torch.where(parameter.abs() < _LEAST_FLOAT32, 0.0, rounded)", "return rounded"),
    ),
    "tf2_impl/optimizer.py": (
        ("the second moment of the gradient, not of its square", "(1 - beta_2) * tf.square(gradient)", "(1 - beta_2) * tf.abs(gradient)"),
        ("betas in single precision", "second_moment = beta_2 * second_moment + (1 - beta_2)", "second_moment = beta_2 * second_moment + (1 - 0.9990000128746033)"),
        ("epsilon before the bias correction, as Keras has it", "/ (root + epsilon)", "/ (root + epsilon / corrections[1] ** 0.5)"),
        ("parameters not rounded", "updated = round_to_float32(updated)", "pass"),
        ("the library's own square root", "return tf.where(y > 0, y + residual / (2.0 * y), y)", "return y + 0.0 * residual"),
        ("the correction of the first moment for that of the second", "corrected_second = second_moment / corrections[1]", "corrected_second = second_moment / corrections[0]"),
    ),
    "pytorch_impl/distributed.py": (
        ("a mean of means", "[part * tensor for tensor in tensors]", "[0.5 * tensor for tensor in tensors]"),
        ("every worker the first", "return Workers(dist.get_rank(), size)", "return Workers(0, size)"),
        ("only the own flag", "        if self.size == 1:\n            return flag", "        if self.size >= 1:\n            return flag"),
    ),
    "tf2_impl/distributed.py": (
        ("a mean for a sum", 'all_reduce("SUM", flat)', 'all_reduce("MEAN", flat)'),
        ("the whole instead of the part", "[part * tensor for tensor in tensors]", "[tensor for tensor in tensors]"),
        ("every worker alone", 'size = len(config.get("cluster", {}).get("worker", ()))', "size = 1"),
    ),
    "pytorch_impl/train_vae.py": (
        ("the order of another step", "rows = draws.minibatch(options.seed, step - 1,", "rows = draws.minibatch(options.seed, step,"),
        ("new noise for every look at the held-out images", 'noise_for("held-out", slice(0, len(x)), 0)', 'noise_for("held-out", slice(0, len(x)), optimizer.step)'),
        ("log variances shown for means", "codes if is_plain else codes[0]", "codes if is_plain else codes[1]"),
    ),
    "tf2_impl/train_vae.py": (
        ("the noise of another step", 'noise_for("noise", own, step)', 'noise_for("noise", own, step - 1)'),
        ("the moments exchanged when resuming", "for n, p in parameters.items()} for read in moments)", "for n, p in parameters.items()} for read in moments[::-1])"),
        ("the variance of the held-out images for that of the training images", "return model.fit_of(x, model.fit_of(tf.constant(training_set.x)).squared_error)", "return model.fit_of(x)"),
    ),
    "pytorch_impl/train_gmm.py": (
        ("one iteration more than is saved", "objective = float(algorithm.objective(parameters))", "parameters, objective = step.after, float(algorithm.objective(iterate(step.after)[0]))"),
        ("responsibilities of the parameters before", "gamma = algorithm.responsibilities(parameters,", "gamma = algorithm.responsibilities(step.before,"),
    ),
    "tf2_impl/train_gmm.py": (
        ("means stored as seen from the centre", "mixture_run.save(run, fit.centre, parameters, number)\n        objective", "mixture_run.save(run, None, parameters, number)\n        objective"),
        ("a reproducible run that does not round", "iterate = partial(mixture_run.iterate, options, algorithm)", "iterate = algorithm.iterate"),
    ),
    "pytorch_impl/algorithms.py": (
        ("all points for every worker", "rows = share(len(data.x), workers.rank, workers.size)", "rows = share(len(data.x), 0, 1)"),
        ("a posterior that stays where it was", "return variational_gmm.variational_iteration(self.x, parameters, self.prior, self.kind, self.reg_covar)", "return parameters, variational_gmm.variational_iteration(self.x, parameters, self.prior, self.kind, self.reg_covar)[1]"),
        ("sample weights forgotten in the iteration", "*parameters, self.kind, self.reg_covar, self.weight)", "*parameters, self.kind, self.reg_covar)"),
    ),
    "tf2_impl/algorithms.py": (
        ("a start that is not regularised", "self.tensor(gamma), self.kind, self.reg_covar))", "self.tensor(gamma), self.kind))"),
        ("missing entries without the regularisation", "em_iteration_with_gaps(x, observed, *parameters, self.reg_covar, self", "em_iteration_with_gaps(x, observed, *parameters, 0.0, self"),
        ("sample weights forgotten with gaps", "self.reg_covar, self.weight)\n        return MixtureParameters(*updated), total\n\n\n@outside_autocast\nclass InChunks", "self.reg_covar)\n        return MixtureParameters(*updated), total\n\n\n@outside_autocast\nclass InChunks"),
    ),
    "pytorch_impl/estimators.py": (
        ("heads and tails to come exchanged", "(*self._tensors(*counts, *self.posterior))", "(*self._tensors(*counts[::-1], *self.posterior))"),
        ("weights learned that are to stay", "em_iteration(heads, tosses, *parameters, self.fixed_weights)", "em_iteration(heads, tosses, *parameters)"),
        ("the prior's mode for the posterior's", "coin.maximum_a_posteriori(*self._tensors(self.heads, self.tails,", "coin.maximum_a_posteriori(*self._tensors(0, 0,"),
    ),
    "tf2_impl/estimators.py": (
        ("gaps left out of what is known of a row", "return algorithms.e_step(x, observed, parameters, self.covariance_type)", "return algorithms.e_step(x, None, parameters, self.covariance_type)"),
        ("a density at another posterior", "coin.beta_log_density(*self._tensors(check_probability(\"theta\", theta), *self.posterior))", "coin.beta_log_density(*self._tensors(check_probability(\"theta\", theta), self.a, self.b))"),
        ("draws with the wrong covariances", "return gmm.sample(*parameters, uniforms, noise, self.covariance_type)\n\n    def _impute", "return gmm.sample(*parameters, uniforms, 2 * noise, self.covariance_type)\n\n    def _impute"),
    ),
    "pytorch_impl/backend.py": (
        ("the latest value first", "if len(pending) > threads:\n                yield pending.popleft()", "if len(pending) > threads:\n                yield pending.pop()"),
        ("products of 10 bits", "torch.backends.cuda.matmul.allow_tf32 = False", "torch.backends.cuda.matmul.allow_tf32 = True"),
        ("one thread left for what follows", "wait(pending)\n        torch.set_num_threads(threads)", "wait(pending)"),
        ("all threads for every item", "torch.set_num_threads(1)  # as", "pass  # as"),
        ("gradients recorded where nobody asked", "with torch.set_grad_enabled(recording):", "with torch.set_grad_enabled(True):"),
    ),
    "tf2_impl/backend.py": (
        ("items wherever a thread likes", "with tf.device(place):", "with tf.device(None):"),
        ("products of 10 bits", "enable_tensor_float_32_execution(False)", "enable_tensor_float_32_execution(True)"),
        ("the latest value first", "if len(pending) > threads:\n                yield pending.popleft()", "if len(pending) > threads:\n                yield pending.pop()"),
        ("arrays in single precision", "return tf.constant(as_array(array))", "return tf.constant(array, tf.float32 if array.dtype == np.float64 else None)"),
    ),
    "pytorch_impl/convolution.py": (
        ("symmetric padding", "(width % 2, 1, height % 2, 1)", "(1, 1, 1, 1)"),
        ("height and width exchanged in the padding", "(width % 2, 1, height % 2, 1)", "(height % 2, 1, width % 2, 1)"),
        ("cut one pixel late", "whole[:, :, height % 2 : height % 2 + height, width % 2 : width % 2 + width]", "whole[:, :, 1 : 1 + height, 1 : 1 + width]"),
        ("no bend after the second convolution", "features = self.activation(self.conv2(features))", "features = self.conv2(features)"),
        ("images laid on their side", "image = x.reshape(-1, 1, *self.image_shape)", "image = x.reshape(-1, 1, *self.image_shape[::-1]).mT"),
    ),
    "tf2_impl/convolution.py": (
        ("height and width exchanged before the dense layer", '"nhwc,hwcm->nm"', '"nwhc,hwcm->nm"'),
        ("the bias of a transposed convolution dropped", "return super().call(features)  # (N", "return super().call(features) - self.bias  # (N"),
        ("no bend after the first transposed convolution", "features = self.activation(self.conv_transpose1(features))", "features = self.conv_transpose1(features)"),
        ("the log variance from the mean's head", "return self.mean(hidden), self.log_var(hidden)", "return self.mean(hidden), self.mean(hidden)"),
    ),
    "pytorch_impl/autoencoder.py": (
        ("variance for log variance", "math.log(self.variance))", "self.variance)"),
        ("squared error summed over pixels", "return torch.square(x - reconstruction).mean()", "return torch.square(x - reconstruction).sum(dim=1).mean()"),
        ("held-out images at their own variance", "squared_error if training_error is None else training_error", "squared_error"),
        ("centres not averaged", "torch.logsumexp(log_densities, dim=1) - math.log(centres.shape[0])", "torch.logsumexp(log_densities, dim=1)"),
    ),
    "tf2_impl/autoencoder.py": (
        ("one pixel's log variance", "x.shape[1] * (math.log(2 * math.pi) + log_var)", "x.shape[1] * math.log(2 * math.pi) + log_var"),
        ("the squared error for the loss", "loss = -fit.log_likelihood", "loss = fit.squared_error"),
        ("a variance through single precision", "tf.constant(math.log(self.variance), squared_error.dtype)", "tf.cast(math.log(self.variance), squared_error.dtype)"),
        ("a bend in the code", "return self.code(hidden)", "return self.activation(self.code(hidden))"),
    ),
    "pytorch_impl/gmm_statistics.py": (
        ("an empty component not at the origin", "delta = (s - extra * references) / counts[:, None]", "delta = s / counts[:, None]"),
        ("one half of the cross terms twice", "- crossed - crossed.mT +", "- 2 * crossed +"),
        ("sample weights forgotten in the moments", "gamma.mul_(sample_weight) @ table.T", "gamma @ table.T"),
        ("one block too many passed over", "function(*block, *arguments) for block in blocks)", "function(*block, *arguments) for block in list(blocks)[-3:])"),
        ("the log likelihood of the last chunk", "a.log_likelihood + b.log_likelihood", "b.log_likelihood"),
        ("a tied covariance averaged without weights", "scatter.sum(dim=0) / counts.sum() + regularisation", "(scatter / counts[:, None, None]).mean(dim=0) + regularisation"),
        ("forty digits allowed to be lost", "torch.float64: 12", "torch.float64: 40"),
        ("a negative variance that loses against a healthy one", "torch.where(kept > 0, 1 / kept, math.inf).max()", "(1 / kept).max()"),
    ),
    "tf2_impl/gmm_statistics.py": (
        ("half of the cross terms on the diagonal", "q - 2 * s * delta", "q - s * delta"),
        ("the mean of the blocks", "Statistics(*(tf.reduce_sum(part, axis=0)", "Statistics(*(tf.reduce_mean(part, axis=0)"),
        ("a variance of zero or less taken for a healthy one", "tf.where(kept > 0, 1 / kept, math.inf)", "tf.where(kept > 0, 1 / kept, 1.0)"),
        ("natural digits for binary", "tf.math.log(tf.reduce_max(ratio)) / math.log(2)", "tf.math.log(tf.reduce_max(ratio))"),
        ("sample weights forgotten far from the centre", "moments_apart(x, gamma * sample_weight, references", "moments_apart(x, gamma, references"),
        ("the start seen from the first point alone", "for _ in range(2):", "for _ in range(1):"),
        ("quadratic form without its half", "0.5 * tf.reduce_sum(tf.square(y), axis=1)", "tf.reduce_sum(tf.square(y), axis=1)"),
        ("stale means in the second look", "references, apart = updated[1], GRAPH", "references, apart = means, GRAPH"),
    ),
    "pytorch_impl/natural_parameters.py": (
        ("products of different features counted once", "np.where(i == j, 0.5, 1.0)", "np.where(i == j, 0.5, 0.5)"),
        ("the mean's square without its half", "constant = constant - 0.5 * (linear * m)", "constant = constant - (linear * m)"),
        ("half of the log determinant", "+ torch.log(diagonal).sum(dim=1)", "+ 0.5 * torch.log(diagonal).sum(dim=1)"),
        ("small responsibilities dropped", "0.9 * math.log(torch.finfo", "0.02 * math.log(torch.finfo"),
    ),
    "tf2_impl/natural_parameters.py": (
        ("the factor's square from the wrong side", "tf.matmul(whiten, whiten, transpose_a=True)", "tf.matmul(whiten, whiten, transpose_b=True)"),
        ("one dimension's constant", "0.5 * d * math.log(2 * math.pi)", "0.5 * math.log(2 * math.pi)"),
        ("the largest exponent not put back", "return largest + tf.math.log(total)", "return tf.math.log(total)"),
        ("deviations for variances on the diagonal", "precisions = tf.square(whiten)", "precisions = whiten"),
    ),
    "pytorch_impl/conjugate.py": (
        ("the total of all sticks for that of each", "torch.digamma(concentration.sum(dim=0))", "torch.digamma(concentration.sum())"),
        ("a stick's own rest in its weight", "broken_off + torch.cat([torch.zeros_like(left[:1]), torch.cumsum(left, dim=0)[:-1]])", "broken_off + torch.cumsum(left, dim=0)"),
        ("the Dirichlet's exponents not less one", "- expected_log_shares(concentration)\n", "\n"),
        ("the power of pi in the multivariate gamma", "0.25 * p * (p - 1) * math.log(math.pi)", "0.5 * p * (p - 1) * math.log(math.pi)"),
        ("the Wisharts of the trace exchanged", "expected_trace(of_inverse_scale, degrees_of_freedom, inverse_scale)", "expected_trace(inverse_scale, degrees_of_freedom, of_inverse_scale)"),
    ),
    "tf2_impl/conjugate.py": (
        ("log determinant of the factor, not of its square", "return 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part", "return tf.reduce_sum(tf.math.log(tf.linalg.diag_part"),
        ("what the last break leaves not shared out", "return weights / tf.reduce_sum(weights)", "return weights"),
        ("digammas off by one", "digamma_correction(0.5 * (nu - i))", "digamma_correction(0.5 * (nu - i - 1))"),
        ("a tail as if of no dimensions", "0.5 * (eta + d) * tf.math.log1p", "0.5 * eta * tf.math.log1p"),
        ("the power of the determinant off by one", "of_degrees_of_freedom - inverse_scale.shape[-1] - 1)", "of_degrees_of_freedom - inverse_scale.shape[-1])"),
    ),
    "pytorch_impl/variational_gmm.py": (
        ("the shares of a stick exchanged", "torch.stack([counts, later])", "torch.stack([later, counts])"),
        ("a stale posterior in the bound", "bound_terms(data, gamma, updated, prior", "bound_terms(data, gamma, posterior, prior"),
        ("no price for not knowing the mean", "0.5 * (gap - d / posterior.mean_precision)", "0.5 * gap"),
        ("the spread without its half", "- 0.5 * spread.sum()", "- spread.sum()"),
        ("the entropy with the wrong sign", "choices_entropy=-torch", "choices_entropy=torch"),
    ),
    "tf2_impl/variational_gmm.py": (
        ("the mean taken as known in the prediction", "widening = (1 + 1 / posterior.mean_precision) * nu / eta", "widening = nu / eta"),
        ("degrees of freedom off by one", "eta = nu + 1 - (d", "eta = nu - (d"),
        ("the prior's precision of the mean upside down", "covariances=posterior.covariances / beta_0)", "covariances=posterior.covariances * beta_0)"),
        ("sum for mean in a tied covariance", "between = tf.reduce_mean(between, axis=0)", "between = tf.reduce_sum(between, axis=0)"),
        ("the entropy of the means short of one nat a pair of dimensions", "(1 + math.log(2 * math.pi) - tf.math.log(beta))", "(math.log(2 * math.pi) - tf.math.log(beta))"),
    ),
}
FAULTS = [Fault(file, *fault) for file, faults in _PLANTED.items() for fault in faults]

# Mutants of cosmic-ray's that change no result, by file: the line before and after, and why it makes no difference.
EQUIVALENT = {
    "pytorch_impl/em.py": {
        "log_determinant = 2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=-1)  # (K,) -> log_determinant = 2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=1)  # (K,)": "the last of two dimensions is number 1",
        "log_weights = torch.log(torch.where(concentration == 1, 1.0, weights))  # (K,) -> log_weights = torch.log(torch.where(concentration == 1, 2.0, weights))  # (K,)": "a finite logarithm is multiplied by zero there",
        "normal = component_log_densities(prior.mean[None, :], means, covariances / prior.mean_precision)[0]  # (K,) -> normal = component_log_densities(prior.mean[None, :], means, covariances / prior.mean_precision)[ -1]  # (K,)": "there is one row",
    },
    "pytorch_impl/estimators.py": {
        "return torch.from_numpy(array if array.flags.writeable else array.copy())  # shared where it may be -> return torch.from_numpy(array if not array.flags.writeable else array.copy())  # shared where it may be": "nothing is written to the array; PyTorch would warn that it could be",
    },
    "pytorch_impl/gmm.py": {
        "log_determinant = 2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=-1)  # (K,) -> log_determinant = 2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=1)  # (K,)": "the last of two dimensions is number 1",
        "log_determinant = torch.log(variances).sum(dim=-1)  # (K,) -> log_determinant = torch.log(variances).sum(dim=1)  # (K,)": "the last of two dimensions is number 1",
        "z = torch.searchsorted(torch.cumsum(weights, dim=0), uniforms, right=True).clamp(max=k - 1)  # (S,) -> z = torch.searchsorted(torch.cumsum(weights, dim= -1), uniforms, right=True).clamp(max=k - 1)  # (S,)": "there is one dimension",
        "return means[z] + (factor[z] @ noise[:, :, None])[:, :, 0], z -> return means[z] + (factor[z] @ noise[:, :, None])[:, :, -1], z": "that dimension has one entry",
    },
    "pytorch_impl/vae.py": {
        "return Bound(*(term.detach() for term in bound)), dict(zip(parameters, gradients, strict=True)) -> return Bound(*(term.detach() for term in bound)), dict(zip(parameters, gradients, strict=False))": "there is a gradient for every parameter that was asked for",
    },
}
