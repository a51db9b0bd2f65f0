# A die with six faces, a count for each: what is expected of its weights, and of their logarithms.
concentration = tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
print("expected weights     ", np.asarray(expected_weights(concentration)).round(4))
print("expected log weights ", np.asarray(expected_log_weights(concentration)).round(4))
print(
    "log expected weights ",
    np.log(np.asarray(expected_weights(concentration))).round(4),
    "lie above, by Jensen's inequality",
)

# %% A stick, broken for ever: Beta(1, 2) shares leave less and less.
stick = tensor([[1.0] * 8, [2.0] * 8])
plt.bar(range(1, 9), np.asarray(expected_weights(stick)))
plt.xlabel("component")
plt.ylabel("expected weight")
plt.show()
