"""A card's call.

preview (all of it), calls, call_plans, call_authorization, call_replies, call_failures, dead_tokens (when the API turns
one down).
"""
