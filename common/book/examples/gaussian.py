# One Gaussian for the 272 eruptions of Old Faithful: minutes of eruption, minutes of waiting.
x = tensor(datasets.load("old-faithful").x)
mean, covariance = maximum_likelihood(x)
print("mean", np.asarray(mean).round(4), "\ncovariance", np.asarray(covariance).round(4).tolist())
print(f"log likelihood {float(log_likelihood(x, mean, covariance)):.4f}")

# %% It is a maximum: the gradient is zero there, and the formula and automatic differentiation agree elsewhere.
print("zero gradient at the maximum", np.allclose(mean_gradient(x, mean, covariance), 0, atol=1e-9))
print("formula ", np.asarray(mean_gradient(x, mean + 0.1, covariance)).round(6))
print("autodiff", np.asarray(mean_gradient_by_autodiff(x, mean + 0.1, covariance)).round(6))

# %% And it is not enough: the data have two humps.
density = np.exp(np.asarray(log_density(x, mean, covariance)))
plt.scatter(*np.asarray(x).T, c=density, s=14)
plt.colorbar(label="density under one Gaussian")
plt.xlabel("eruption (minutes)")
plt.ylabel("waiting (minutes)")
plt.show()
