"""The tests of `test_examples.py` once more, where what they need besides NumPy is installed."""

from test_examples import *
