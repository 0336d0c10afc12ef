"""Models, and the parts that they share."""
