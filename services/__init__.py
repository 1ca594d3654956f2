"""Verbs: one function, one unit of work. No Flask, no enqueueing."""
