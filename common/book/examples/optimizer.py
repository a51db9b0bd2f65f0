# Adam walks down a valley that is a hundred times steeper across than along.
position = tensor([1.0, 1.0])
first, second, path = 0 * position, 0 * position, [np.asarray(position)]
for step in range(1, 201):
    gradient = tensor([1.0, 100.0]) * position
    corrections = bias_corrections(step)
    position, first, second = adam_update(position, gradient, first, second, corrections, learning_rate=0.05)
    path.append(np.asarray(position))
print("after 200 updates", path[-1].round(8))
plt.plot(*np.array(path).T, marker=".", linewidth=0.7)
plt.xlabel("along the valley")
plt.ylabel("across it")
plt.show()

# %% The grid on which two frameworks' gradients meet: their last bits differ, what Adam sees does not.
ours, theirs = tensor([0.3, -0.7, 1e-4]), tensor([0.3 * (1 + 2e-16), -0.7, 1e-4])
print("equal before", np.array_equal(ours, theirs))
print("equal after ", np.array_equal(round_to_grid(ours), round_to_grid(theirs)))
