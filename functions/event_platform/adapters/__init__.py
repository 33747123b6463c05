"""Adapters: each module implements ports with one technology."""
