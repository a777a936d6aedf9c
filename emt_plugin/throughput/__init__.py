"""What the suite costs, as ratios to the plainest way of doing the same on the same machine in the same run."""
