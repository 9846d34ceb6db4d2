"""The election: pure, without I/O, clock or threads. It decides and never acts.

=============  ==========================================================
states         the states and the transition table
events         what the machine is told, and the effects that it asks for
policy         deadlines, and why; ``explain``
standing       the facts
observing      how events change them
signals        when a member moves on
entry          what it does then: the protocol's steps
duties         following, tags, telling
machine        one step
=============  ==========================================================
"""
