# Six components for Old Faithful, standardised, and a belief that few are needed: four end with nothing.
x = datasets.load("old-faithful").x
x = (x - x.mean(axis=0)) / x.std(axis=0)
arguments = {"weight_concentration_prior_type": "dirichlet_distribution", "weight_concentration_prior": 1e-3}
mixture = estimators.BayesianGaussianMixture(6, random_state=0, max_iter=1000, tol=1e-8, **arguments).fit(x)
print("weights", np.sort(mixture.weights_)[::-1].round(4))

# %% The points, in the colours of the components that are left.
plt.scatter(*x.T, c=mixture.predict(x), cmap="tab10", s=14)
plt.xlabel("eruption (standardised)")
plt.ylabel("waiting (standardised)")
plt.show()
