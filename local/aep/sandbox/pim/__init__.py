"""The simulated PIM: its connection and App, a small catalogue, and the API through which both are read."""
