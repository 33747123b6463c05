"""The surroundings of the platform on one machine: a simulated PIM, a receiving inbox, the demo."""
