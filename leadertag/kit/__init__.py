"""For backends whose registry keeps the instances itself: what all of them would write alike.

A store that knows nothing of services (etcd, ZooKeeper) needs a form for an instance with its
tags, health and gates (:mod:`leadertag.kit.registration`), and for a query's definition and
what it answers (:mod:`leadertag.kit.queries`). Where to put them, and how a transaction
compares, is the plugin's own.
"""
