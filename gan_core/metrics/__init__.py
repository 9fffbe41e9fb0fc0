"""Metrics of generated images: features, scores from them, nearest neighbours, Parzen window, intervals."""
