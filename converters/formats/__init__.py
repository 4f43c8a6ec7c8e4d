"""Readers, one module a layout, found by the name that a spec gives as `source.format`."""
