"""Drills of "never two leaders": each goes ten out of ten.

``LEADERTAG_DRILL_TIMES=10 python -m pytest tests/integration/drills`` runs each ten times;
without the variable it is once.
"""
