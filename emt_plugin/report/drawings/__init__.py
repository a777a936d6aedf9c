"""What a report draws: charts, curves and tables as plain values for the templates."""
