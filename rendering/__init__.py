"""Turning a reply into a card: values into requests, templates into HTML, HTML into a frame. No Flask, SQL or HTTP."""
