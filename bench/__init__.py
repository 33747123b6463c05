"""The benchmark: measures the platform from outside, as a user runs it. See README.md beside this file."""
