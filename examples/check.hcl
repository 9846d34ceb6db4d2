check {
  id         = "redis-leader"
  name       = "redis leader election"
  service_id = "redis"
  args = [
    "/usr/local/bin/leadertag", "check",
    "--service", "redis",
    "--query", "sensu-redis-master",
    "--tag", "sensu",
    "--check-id", "redis-leader",
    "--interval", "10s",
  ]
  interval = "10s"
  timeout  = "10s"
}
