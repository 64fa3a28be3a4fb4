"""How threads wait for each other: they spin briefly, then sleep.

Kernels and torch share one OpenMP library, GCC's. Its threads wait in a loop of 300,000 rounds by default, up to eight
milliseconds, before they sleep. Beside another busy process, they take the time in which the thread that they wait for
could run. If they slept at once, they would have to be woken for each of a step's many short parallel parts.

Measured on two cores of an Intel Sapphire Rapids beside 0, 1 and 2 processes that compute without a pause, as shares of
the speed alone with the default; a round takes 25 ns there, and 10 to 16 on AMD's Zen:

    rounds                                0    1,000    2,000    5,000   10,000   300,000
    training v0.1 with the kernels     0.92     0.94     0.98     0.98     1.00      1.00
      beside one                       0.53     0.53     0.53     0.52     0.48      0.35
      beside two                       0.45     0.45     0.45     0.42     0.43      0.34
    training v0.1 with PyTorch         0.69     0.81     0.90     0.97     0.98      1.00
      beside one                       0.48     0.46     0.44     0.36     0.31      0.22
      beside two                       0.34     0.32     0.37     0.33     0.37      0.18

Writing and reading a text take one thread and do not wait. The library reads the setting once, when torch is imported,
so it is made when `axion` is imported; where torch was imported before, the default stays. It changes no result: which
thread computes what does not depend on it.
"""

import os

ROUNDS = "2000"
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def spin_shortly() -> None:
    """Sets $GOMP_SPINCOUNT for this process and those that it starts, unless the user has chosen how threads wait."""
    if not any(os.environ.get(name) for name in SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = ROUNDS
