"""The rendered set: drawn people in Market-1501's layout."""
