"""Readers of annotation layouts and builders of instruction samples."""
