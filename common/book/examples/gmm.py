# EM on Old Faithful from a poor start: the log likelihood never falls.
x = tensor(datasets.load("old-faithful").x)
parameters = (
    tensor([0.5, 0.5]),
    tensor([[2.5, 82.0], [4.5, 56.0]]),
    tensor([[[0.15, 0.0], [0.0, 100.0]], [[0.15, 0.0], [0.0, 100.0]]]),
)
trace = []
for _ in range(40):
    parameters, total = em_iteration(x, *parameters)
    trace.append(float(total))
weights, means, covariances = parameters
print(f"log likelihood {trace[0]:.4f} -> {trace[-1]:.4f}, never falls: {bool(np.all(np.diff(trace) > -1e-9))}")
print("weights", np.asarray(weights).round(4), "\nmeans", np.asarray(means).round(4).tolist())

# %% The same by the estimator, with scikit-learn's interface.
mixture = estimators.GaussianMixture(2, random_state=0, tol=1e-10, max_iter=500).fit(datasets.load("old-faithful").x)
print(f"log likelihood {mixture.score(x) * len(x):.4f}, BIC {mixture.bic(x):.3f}")
