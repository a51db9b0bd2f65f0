# Heads in half of a trillion tosses, twice: as three log factorials that cancel, and as what they leave.
from math import lgamma, log

half = 5e11
print(f"three log factorials  {lgamma(2 * half + 1) - 2 * lgamma(half + 1) - 2 * half * log(2):.10f}")
print(f"what they leave       {float(binomial_log_probability(*map(tensor, (half, half, 1, 1)))):.10f}")

# %% A count that is off by ten of a hundred costs half a nat, about half a squared deviation.
print("deviance", np.asarray(deviance(tensor([90, 100, 110, 150]), tensor(100))).round(4))
