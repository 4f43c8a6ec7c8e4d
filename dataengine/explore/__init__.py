"""Looking at samples in a browser on this machine: found by what they are, marked to keep or to drop."""
