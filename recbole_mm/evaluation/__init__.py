"""What comparisons rest on: intervals, paired tests, protocols."""
