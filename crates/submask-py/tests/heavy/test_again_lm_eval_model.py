"""The tests of `test_lm_eval_model.py` once more, where what they need besides NumPy is installed."""

from test_lm_eval_model import *
