"""How good generated images are: features, scores from them, nearest neighbours, Parzen window, intervals."""
