"""How good answers are, by subject. No module here knows a model, a batch or a sample's pictures."""
