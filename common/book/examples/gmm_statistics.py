# EM in three chunks, whose statistics add up: the parameters of the plain iteration.
x = datasets.load("old-faithful").x
parameters = (
    tensor([0.5, 0.5]),
    tensor([[2.0, 55.0], [4.0, 80.0]]),
    tensor([[[0.2, 0.0], [0.0, 40.0]], [[0.2, 0.0], [0.0, 40.0]]]),
)
chunks = [(tensor(rows), tensor(np.ones(len(rows)))) for rows in np.array_split(x, 3)]
updated, total = em_iteration(chunks, *parameters)
plain, plain_total = gmm.em_iteration(tensor(x), *parameters)
apart = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(updated, plain, strict=True))
print(f"log likelihood {float(total):.6f} and {float(plain_total):.6f}; parameters agree to 1e-10: {apart < 1e-10}")
