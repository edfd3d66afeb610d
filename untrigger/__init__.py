"""Untrigger finds the distribution of backdoor triggers in an image classifier and retrains it to ignore them."""

__version__ = "0.1.0"
