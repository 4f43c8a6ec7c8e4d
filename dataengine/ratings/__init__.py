"""What each sample of a manifest looks and reads like, as numbers in a table beside it; samples stay as they are."""
