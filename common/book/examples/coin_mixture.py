# Five lines of ten tosses; two coins, picked equally often. Which line is whose?
heads, tosses = tensor([5, 9, 8, 4, 7]), tensor([10, 10, 10, 10, 10])
weights, biases = tensor([0.5, 0.5]), tensor([0.6, 0.5])
print("first coin's share of each line", np.asarray(responsibilities(heads, tosses, weights, biases)[:, 0]).round(2))
path = [np.asarray(biases)]
for _ in range(10):
    (weights, biases), total = em_iteration(heads, tosses, weights, biases, fixed_weights=True)
    path.append(np.asarray(biases))
print("biases after 1 iteration  ", path[1].round(2))
print("biases after 10 iterations", path[10].round(2))

# %% The way there.
plt.plot(path, marker="o", label=["first coin", "second coin"])
plt.xlabel("iteration")
plt.ylabel("bias")
plt.legend()
plt.show()
