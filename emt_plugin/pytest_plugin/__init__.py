"""What pytest is told: options, fixtures, the session and its workers. Wiring; no arithmetic."""
