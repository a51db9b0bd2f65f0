# Air quality in New York, 1973: 37 of 153 days lack the ozone, 7 the solar radiation.
table = datasets.load("airquality").x
data, seen = check_missing(table)
x, observed = tensor(data), tensor(seen, dtype=boolean)
parameters = gaussian.maximum_likelihood(tensor(mean_imputed(data, seen)))
parameters = tensor([1.0]), parameters[0][None], parameters[1][None]
trace = []
for _ in range(60):
    parameters, total = em_iteration(x, observed, *parameters)
    trace.append(float(total))
print(f"log likelihood of what was observed {trace[0]:.4f} -> {trace[-1]:.4f}")
ozone = np.asarray(parameters[1])[0, 0]
print(f"mean ozone {ozone:.3f} by EM, {np.nanmean(table[:, 0]):.3f} from the days that have it")

# %% The gaps filled with their expected values, and with a draw, which scatters as the truth would.
filled = np.asarray(impute(x, observed, *parameters))
noise = tensor(draws.normals(0, "sample", data.shape))
drawn = np.asarray(impute_draw(x, observed, *parameters, tensor(draws.uniforms(0, "component", (len(data),))), noise))
gap = ~seen[:, 0]
figure, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(9, 3.6))
for panel, title, completed in zip(axes, ("expected", "drawn"), (filled, drawn), strict=True):
    panel.scatter(data[~gap, 3], data[~gap, 0], s=10, label="observed")
    panel.scatter(completed[gap, 3], completed[gap, 0], s=14, label=title)
    panel.set(xlabel="temperature (°F)", ylabel="ozone (ppb)")
    panel.legend()
plt.show()
