"""Builders, one module a family of answers, found by the name that a task gives as `builder`."""
