"""Pausing and resuming: connections, providers, everything."""
