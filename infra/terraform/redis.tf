# Shared state, for several instances. It must never evict: a lost record is a
# message pushed twice. The function refuses a server that does. redis:// and not
# rediss://: Tair's certificate has an issuer that no system trusts, and the way
# to it is inside vpc.
resource "alicloud_redis_tair_instance" "state" {
  count = var.state == "tair" ? 1 : 0

  tair_instance_name = "${var.name}-state"
  instance_type      = "tair_rdb"
  instance_class     = try(var.tair.instance_class, "")
  engine_version     = try(var.tair.engine_version, "")
  zone_id            = try(var.tair.zone_id, "")
  vpc_id             = try(var.vpc.vpc_id, "")
  vswitch_id         = try(var.vpc.vswitch_id, "")
  security_group_id  = try(var.vpc.security_group_id, "")
  payment_type       = "PayAsYouGo"
  node_type          = "MASTER_SLAVE"
  port               = 6379
  password           = var.tair_password
  vpc_auth_mode      = "Open" # with the password

  config = {
    "maxmemory-policy" = "noeviction"
    "appendonly"       = "yes"
  }

  lifecycle {
    prevent_destroy = true # its records keep messages from being pushed twice

    precondition {
      condition     = var.tair != null && var.vpc != null && var.tair_password != null
      error_message = "state tair needs tair, vpc and tair_password."
    }
  }
}
