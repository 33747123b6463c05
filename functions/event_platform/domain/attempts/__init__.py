"""Attempts: the request, its signature, what came of it, and when it is made again."""
