"""Trustworthy label distributions for speech emotion from sparse human votes and synthetic ones."""

__version__ = "0.1.0"
