"""`python -m dataengine` is the command line."""

from dataengine.cli import main

main()
