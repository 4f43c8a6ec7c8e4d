"""Pictures of samples, plots and self-contained HTML pages."""
