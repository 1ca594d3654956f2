"""What a verb may need besides its session: settings, the database, the guarded HTTP client, the renderer."""

from __future__ import annotations

from dataclasses import dataclass, field

import outbound
from config import Settings
from models.database import Database
from models.types import Keyring
from outbound import Limits
from rendering.liquid import Renderer
from services.floors import Floors
from services.slots import Slots


@dataclass(frozen=True)
class Resources:
    """One for each process; closes what it opened."""

    settings: Settings
    database: Database
    http: outbound.Client
    renderer: Renderer
    slots: Slots = field(default_factory=Slots)
    """Who is making how many card calls in this process."""
    floors: Floors = field(default_factory=Floors)
    """Where this process begins to look for what is due."""

    @classmethod
    def open(cls, settings: Settings) -> Resources:
        """Connect nothing yet. Raises KeyringProblem or ValueError in one plain sentence."""
        keyring = Keyring.parse(settings.encryption_keys)
        policy = outbound.Policy.parse(settings.outbound_allow)
        return cls(settings, Database(settings.sqlalchemy_url, keyring), outbound.Client(policy), Renderer())

    @property
    def token_limits(self) -> Limits:
        """Limits of a token request: seconds and bytes."""
        return Limits(self.settings.token_deadline, self.settings.connect_deadline, 256 * 1024)

    @property
    def call_limits(self) -> Limits:
        """Limits of a card's API call: seconds and bytes."""
        settings = self.settings
        return Limits(
            settings.call_deadline, min(settings.connect_deadline, settings.call_deadline), settings.call_bytes
        )

    def close(self) -> None:
        """Give everything back."""
        self.http.close()
        self.renderer.close()
        self.database.close()
