"""Who may come in, and to what.

members, accounts (one's own), sign_in, passwords, links, workspaces, provisioning (from the command line).
"""
