"""Configurations of `python -m brave.experiment`."""
