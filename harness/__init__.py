"""Security-product compatibility regression testing for Windows trading programs (HTS)."""

__version__ = "0.1.0"
