"""The rehearsal provider: an authorization server and an API that stand in for a third party.

A process of its own; imports nothing of Cardkey, and nothing of Cardkey imports it.
"""

from rehearsal.app import create_app

__all__ = ["create_app"]
