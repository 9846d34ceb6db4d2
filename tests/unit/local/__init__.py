"""The embedded backend beyond its contracts: processes, files, time."""
