# A component of the mixture shrinks onto the first eruption; the other looks after the rest.
x = datasets.load("old-faithful").x
x = tensor((x - x.mean(axis=0)) / x.std(axis=0))
widths = tensor([1.0, 1e-1, 1e-2, 1e-4, 1e-8])
for name, curve in {
    "one Gaussian": single_gaussian_curve(x, widths),
    "mixture": mixture_curve(x, widths),
    "with reg_covar 1e-6": regularised_curve(x, widths, 1e-6),
}.items():
    print(f"{name:20}", *(f"{value:12.4g}" for value in np.asarray(curve)))
