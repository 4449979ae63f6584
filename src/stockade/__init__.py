"""Stockade: an API security gateway compiled from an API's own description."""

__version__ = "0.1.0"
