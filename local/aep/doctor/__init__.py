"""Checks of `aep doctor`: of this machine, and of a platform seen from outside."""
