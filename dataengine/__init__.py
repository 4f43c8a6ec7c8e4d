"""A data engine and trainer for generalist vision-language models."""

__version__ = "0.1.0"
