"""A grant's beginning and end.

authorization (the press of the button), attempts (its rows), redemption (the answer and its checks), refusals (answers
that nothing may come of), exchanges (code for token), findings (what to know of a success), grants (taking away).
"""
