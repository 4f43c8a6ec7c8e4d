"""Whether what a model learns from is in what it is to be measured on."""
