# What a worker finds is a sum over its points, and sums add up: three workers' shares of a mean and a scatter.
from common.data.chunks import share

x = np.linspace(0.0, 1.0, 10) ** 2
parts = [x[share(len(x), rank, 3)] for rank in range(3)]
print("points of each", [len(part) for part in parts])
count, first, second = (sum(float(np.sum(part**power)) for part in parts) for power in (0, 1, 2))
print("mean of all    ", round(first / count, 12), round(float(np.mean(x)), 12))
print("variance of all", round(second / count - (first / count) ** 2, 12), round(float(np.var(x)), 12))

# %% Means of shares are weighted by the part of the points that each is of; unweighted they are another number.
weighted = sum(len(part) / len(x) * float(np.mean(part)) for part in parts)
print("weighted  ", round(weighted, 12))
print("unweighted", round(float(np.mean([np.mean(part) for part in parts])), 12))
