"""Connections: their list, their configuration, their end."""
