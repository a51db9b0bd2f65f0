# log p = L + KL for the waiting times, whatever q is; here q says one half to every choice.
x = tensor(datasets.load("old-faithful").x[:, 1:])
parameters = tensor([0.5, 0.5]), tensor([[60.0], [75.0]]), tensor([[[90.0]], [[90.0]]])
joint = gmm.log_joint(x, *parameters)
half = tensor(np.full((len(x), 2), 0.5))
bound, divergence = lower_bound(half, joint), kl_divergence(half, log_posterior(joint))
print(f"L {float(bound):.4f} + KL {float(divergence):.4f} = {float(bound + divergence):.4f}")
print(f"log p directly                    {float(log_evidence(joint)):.4f}")

# %% The E step closes the gap.
q = posterior(joint)
gap = float(kl_divergence(q, log_posterior(joint)))
print(f"at the posterior: L {float(lower_bound(q, joint)):.4f}, KL {abs(gap):.6f}")
