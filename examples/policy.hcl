# What leadertag needs on the node n1, for the service redis and the query sensu-redis-master.
key_prefix "leadertag/" {
  policy = "write"
}
session "n1" {
  policy = "write"
}
service "redis" {
  policy = "write"
}
service "leadertag" {
  policy = "write"
}
node_prefix "" {
  policy = "read"
}
query "sensu-redis-master" {
  policy = "write"
}
agent "n1" {
  policy = "read"
}
