"""Tests of the pure election machine, rule by rule, and in the simulator."""
