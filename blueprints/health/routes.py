"""Addresses for load balancers and monitoring; open to anybody, so they name no tenant and hold no secret."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST

from blueprints import web
from services.operating import health
from workers import queue

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process is alive; touches nothing else."""
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def readyz() -> Response:
    """One entry for each thing the installation needs; 503 while one of them is missing."""
    checks = health.ready(web.resources())
    response = jsonify({name: {"ok": check.ok, "detail": check.words} for name, check in checks.items()})
    response.status_code = 200 if all(check.ok for check in checks.values()) else 503
    return response


@blueprint.get("/metrics")
def metrics() -> Response:
    """Figures as Prometheus reads them, counted at the moment they are asked for."""
    figures = health.metrics(web.resources(), queue.depth(web.resources()))
    return Response(figures, content_type=CONTENT_TYPE_LATEST)
