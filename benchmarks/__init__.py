"""What a user runs. Asserts, and nothing that computes."""
