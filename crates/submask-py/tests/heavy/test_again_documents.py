"""The tests of `test_documents.py` once more, where what they need besides NumPy is installed."""

from test_documents import *
