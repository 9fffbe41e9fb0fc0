"""What both players minimise, the penalties on D's gradient, and V(D, G) with its Jensen-Shannon estimate."""
