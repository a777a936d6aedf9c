"""What a report says: sentences, numbers as people write them, and commands to type."""
