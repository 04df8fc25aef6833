"""Airbnb listings: the source table → a snapshot a day → price changes and summaries."""
