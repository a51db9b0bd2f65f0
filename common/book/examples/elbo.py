# A model whose evidence is known: z ~ N(0, 1), x ~ N(z, 1), so that x ~ N(0, 2). The bound is tight at the posterior.
x = tensor([[1.5]])
evidence = float(gaussian_log_likelihood(x, tensor(0), tensor(np.log(2)))[0])
rows = []
for mean, variance in ((0, 1), (0.75, 1), (0.75, 0.5)):
    q = tensor([[mean]]), tensor([[np.log(variance)]])
    z = reparameterize(q[0], q[1], tensor(draws.normals(0, "noise", (200_000, 1))))
    bound = evidence_lower_bound(gaussian_log_likelihood(x, z, tensor(0)), gaussian_kl_to_standard_normal(*q))
    print(f"q = N({mean}, {variance}): ELBO {float(bound.elbo):.2f}, log p(x) {evidence:.2f}")

# %% More draws tighten a bad q: the importance-weighted bound, averaged over many repetitions.
mean, log_var = tensor([[0.0]]), tensor([[0.0]])
counts, bounds = (1, 2, 5, 10, 50), []
for count in counts:
    noise = tensor(draws.normals(0, "noise", (count * 4000, 1)))
    z = reparameterize(mean, log_var, noise)
    weights = log_importance_weights(gaussian_log_likelihood(x, z, tensor(0)), z, mean, log_var)
    weights = tensor(np.asarray(weights).reshape(count, 4000))
    bounds.append(float(np.asarray(importance_weighted_bound(weights)).mean()))
plt.semilogx(counts, bounds, marker="o", label="importance-weighted bound")
plt.axhline(evidence, color="black", label="log p(x)")
plt.xlabel("draws")
plt.ylabel("nats")
plt.legend()
plt.show()
