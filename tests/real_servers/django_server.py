"""An authorization server for Cardkey's tests: django-oauth-toolkit with clients of ours, and one protected resource.

Run as `python django_server.py settings.json`, where the settings name port, folder, redirect_uri, clients and
lifetime. Prints "ready" when it answers.
"""

import json
import sys
from pathlib import Path

import django
from django.conf import settings as django_settings
from werkzeug.serving import make_server

LOGIN_FORM = """<form method="post">{% csrf_token %}{{ form }}<input type="hidden" name="next" value="{{ next }}">
<button>Sign in</button></form>"""


def configure(folder, lifetime):
    """Django around one SQLite file."""
    django_settings.configure(
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(Path(folder) / "django.sqlite3"),
                "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "context_processors": ["django.template.context_processors.request"],
                    "loaders": [
                        ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_FORM}),
                        "django.template.loaders.app_directories.Loader",
                    ],
                },
            }
        ],
        # A slow hash would only slow the tests: secrets here are printed a few lines further down.
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        LOGIN_URL="/login/",
        OAUTH2_PROVIDER={
            "PKCE_REQUIRED": True,
            "SCOPES": {"read": "Read orders"},
            "DEFAULT_SCOPES": ["read"],
            "ACCESS_TOKEN_EXPIRE_SECONDS": lifetime,
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
            "ALLOWED_REDIRECT_URI_SCHEMES": ["http", "https"],
        },
    )
    django.setup()


def fill(settings):
    """One person, and the clients."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    person = User.objects.create_user("sam", password="sam")
    for client in settings["clients"]:
        Application.objects.create(
            name=client["client_id"],
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=(
                Application.GRANT_AUTHORIZATION_CODE if client["person"] else Application.GRANT_CLIENT_CREDENTIALS
            ),
            redirect_uris=settings["redirect_uri"] if client["person"] else "",
            user=person,
        )


def urls():
    """The toolkit's addresses, a sign-in page, the resource."""
    from django.contrib.auth.views import LoginView
    from django.http import JsonResponse
    from django.urls import include, path
    from oauth2_provider.decorators import protected_resource

    @protected_resource(scopes=["read"])
    def orders(request):
        token = request.resource_owner
        return JsonResponse({"client": str(token or ""), "orders": [1, 2]})

    return [
        path("login/", LoginView.as_view()),
        path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
        path("api/orders", orders),
    ]


if __name__ == "__main__":
    wishes = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    configure(wishes["folder"], wishes["lifetime"])
    from django.core.wsgi import get_wsgi_application

    sys.modules[django_settings.ROOT_URLCONF].urlpatterns = urls()
    application = get_wsgi_application()
    fill(wishes)
    server = make_server("127.0.0.1", wishes["port"], application, threaded=True)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()
