"""The certificate: each chapter and estimator scored in correct digits against answers that nobody here computed.

`python -m parity_tests.certificate` runs every row in both frameworks. `answers.R` asks R, and `answers.json` is
what it said; `nist.txt` has the sets of NIST that are not made by a formula.
"""

from parity_tests.certificate import calibration, coins, mixtures, networks, nist

ROWS = [row for module in (coins, nist, mixtures, networks) for row in module.ROWS]
TRIALS = calibration.TRIALS
