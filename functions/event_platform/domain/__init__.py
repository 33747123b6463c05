"""Nouns and decisions of the platform. Pure: no input or output, no SDK, no clock of its own."""
