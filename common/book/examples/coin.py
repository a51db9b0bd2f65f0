# Three tosses, all heads, of a coin about which Beta(2, 2) says what we believe.
tosses, a, b = tensor([1, 1, 1]), tensor(2), tensor(2)
heads, tails = sufficient_statistics(tosses)
print(f"maximum likelihood    {float(maximum_likelihood(heads, tails)):.4f}")
print(f"maximum a posteriori  {float(maximum_a_posteriori(heads, tails, a, b)):.4f}")
print(f"full Bayes predicts   {float(predictive(heads, tails, a, b)):.4f}")

# %% The evidence, two ways: as an integral in closed form, and as what each toss cost when it came.
print(f"log evidence          {float(log_evidence(heads, tails, a, b)):.6f}")
print(f"toss by toss          {float(log_evidence_by_prediction(tosses, a, b)):.6f}")
