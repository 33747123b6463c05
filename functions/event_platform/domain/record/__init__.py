"""Records of subscribers and subscriptions for people: log entries, notifications, answers of the API."""
