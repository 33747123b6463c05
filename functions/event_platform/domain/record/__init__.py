"""What is told of subscribers and subscriptions: log entries, notifications, answers of the API."""
