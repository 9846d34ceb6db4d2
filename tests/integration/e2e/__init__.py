"""leadertag from the command line, on real Consul agents with real Redis servers."""
