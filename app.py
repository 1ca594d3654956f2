"""Wiring only: settings and resources in, a Flask application out."""

from __future__ import annotations

import sys
from datetime import timedelta

from flask import Flask
from flask_wtf.csrf import CSRFProtect
from jinja2 import StrictUndefined
from werkzeug.middleware.proxy_fix import ProxyFix

import commands
import config
import embedded
import logs
from blueprints import errors, guards, pages, web
from blueprints.audit import routes as audit
from blueprints.auth import routes as auth
from blueprints.authorization import routes as authorization
from blueprints.cards import routes as cards
from blueprints.connections import kept
from blueprints.connections import routes as connections
from blueprints.health import routes as health
from blueprints.members import routes as members
from blueprints.operations import routes as operations
from blueprints.pauses import routes as pauses
from blueprints.preview import routes as preview
from blueprints.settings import routes as settings_pages
from models.types import KeyringProblem
from services.resources import Resources

csrf = CSRFProtect()


def create_app(settings: config.Settings | None = None) -> Flask:
    """The portal. Exits with one plain sentence when a setting is missing or weak."""
    try:
        settings = settings or config.load(**embedded.for_commands())
        resources = Resources.open(settings)
        if resources.database.keyring.holds(settings.secret_key.get_secret_value()):
            raise KeyringProblem("CARDKEY_SECRET_KEY and CARDKEY_ENCRYPTION_KEYS must not be the same key.")
    except (config.SettingsProblem, embedded.Unusable, KeyringProblem, ValueError) as problem:
        sys.exit(f"Cardkey does not start: {problem}")
    return build(settings, resources)


def build(settings: config.Settings, resources: Resources) -> Flask:
    """The application around resources that are open already."""
    logs.configure(settings.log_level)
    app = Flask(__name__)
    app.config.from_mapping(_flask_settings(settings))
    app.extensions["cardkey"] = resources
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.wsgi_app = ProxyFix(app.wsgi_app, *([settings.trusted_proxies] * 3))  # type: ignore[method-assign]
    csrf.init_app(app)
    web.init_app(app)
    guards.init_app(app)
    errors.init_app(app)
    pages.init_app(app)
    own = (audit, auth, authorization, cards, connections, kept, health, members, operations, pauses, preview)
    for routes in (*own, settings_pages):
        app.register_blueprint(routes.blueprint)
    csrf.exempt(authorization.callback)
    commands.init_app(app)
    return app


def _flask_settings(settings: config.Settings) -> dict[str, object]:
    """Cookies as shapes need them: Lax, since Strict would lose the callback; `__Host-` under https."""
    prefix = "__Host-" if settings.is_https else ""
    storage = settings.redis_url or "memory://"
    return {
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "SESSION_COOKIE_NAME": f"{prefix}cardkey",
        "SESSION_COOKIE_SECURE": settings.is_https,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "PERMANENT_SESSION_LIFETIME": timedelta(seconds=settings.session_longest),
        "MAX_CONTENT_LENGTH": 256 * 1024,
        "MAX_FORM_MEMORY_SIZE": 256 * 1024,
        "MAX_FORM_PARTS": 200,
        "WTF_CSRF_TIME_LIMIT": None,
        "RATELIMIT_STORAGE_URI": f"redis+{storage}" if storage.startswith("unix://") else storage,
        "RATELIMIT_STORAGE_OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1} if settings.redis_url else {},
        "RATELIMIT_STRATEGY": "fixed-window",
    }
