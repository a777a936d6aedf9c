"""What a run of the gate needs whoever starts it, pytest or a program: its settings, what it runs on, and its record."""
