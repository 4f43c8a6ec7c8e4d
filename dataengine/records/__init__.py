"""Tables as data: the parts of the `records` format, each a few pure functions."""
