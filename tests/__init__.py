"""The tests of leadertag."""
