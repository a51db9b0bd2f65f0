# A log density is a product of coefficients and features: the same numbers as the chapter on mixtures has.
x = tensor(datasets.load("old-faithful").x)
mixture = estimators.GaussianMixture(2, random_state=0).fit(datasets.load("old-faithful").x)
parameters = tensor(mixture.weights_), tensor(mixture.means_), tensor(mixture.covariances_)
centre = tensor(datasets.load("old-faithful").x.mean(axis=0))
coefficients, table = natural_parameters(*parameters, centre), features(x, centre)
by_product = np.asarray(coefficients) @ np.asarray(table)
directly = np.asarray(gmm.log_joint(x, *parameters)).T
print(
    f"{table.shape[0]} features of a point; largest difference below 1e-12:",
    np.abs(by_product - directly).max() < 1e-12,
)
