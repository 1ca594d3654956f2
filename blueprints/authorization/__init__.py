"""Authorize: to the provider and back."""
