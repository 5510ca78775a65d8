data "alicloud_account" "current" {}

locals {
  account = data.alicloud_account.current.id
  shared  = var.state != "memory"
  http    = var.http_jwks != null
  webhook = var.webhook_token != null

  state_url = {
    memory = "memory"
    redis  = var.redis_url
    tair   = one([for t in alicloud_redis_tair_instance.state : "redis://:${urlencode(var.tair_password)}@${t.connection_domain}:6379"])
  }

  settings = {
    REPUSH_REGION        = var.region
    REPUSH_ONS_ENDPOINT  = var.ons_endpoint
    REPUSH_ALLOW         = join(",", distinct([for a in var.allow : "${a.instance}/${a.group}/${a.topic}"]))
    REPUSH_STATE         = local.state_url[var.state]
    REPUSH_RESULTS       = "eventbridge://${alicloud_event_bridge_event_bus.results.event_bus_name}"
    REPUSH_QPS           = tostring(var.qps)
    REPUSH_CONCURRENCY   = "150" # 10 a second for 15 s; one instance never has more to do
    REPUSH_ON_UNKNOWN    = var.on_unknown
    REPUSH_MAX_PUSHES    = tostring(var.max_pushes)
    REPUSH_GIVE_UP_AFTER = var.give_up_after
    REPUSH_MAX_AGE       = var.max_age
    REPUSH_PUSH_TIMEOUT  = "${var.push_timeout}s"
    REPUSH_HTTP_TOKEN    = local.http ? var.http_token : ""
    REPUSH_LOG_LEVEL     = var.log_level
  }

  # The one that pushes, and the one that turns alerts into requests. In memory
  # nothing is shared between instances, so there is one of each.
  functions = {
    repush = {
      name         = var.name
      description  = "Pushes stuck RocketMQ messages again"
      package      = var.package
      memory       = 256
      cpu          = 0.2
      concurrency  = var.instance_concurrency
      instances    = local.shared ? var.max_instances : 1
      dead_letters = "dead-letters" # redrive sends them through once more
      settings     = local.settings
    }

    plan = {
      name         = "${var.name}-plan"
      description  = "Turns alerts about RocketMQ groups into requests"
      package      = var.plan_package
      memory       = 128 # 10,000 dead letters take less than 64 MB; the sweep runs it every minute
      cpu          = 0.1
      concurrency  = 20
      instances    = local.shared ? 2 : 1 # one that hangs does not hold up the alerts
      dead_letters = "buried"             # the alarm repeats, and a person may ask
      settings = merge(local.settings, {
        REPUSH_REQUESTS      = "mns://queues/${local.queue_name.requests}"
        REPUSH_WEBHOOK_TOKEN = local.webhook ? var.webhook_token : ""
        REPUSH_PLAN_LAG      = var.plan_lag
        REPUSH_PLAN_COOLDOWN = var.plan_cooldown
        REPUSH_PLAN_LIMIT    = tostring(var.plan_limit)
        REPUSH_GROUP_BUDGET  = tostring(var.group_budget)
      })
    }
  }
}

resource "alicloud_fcv3_function" "function" {
  for_each = local.functions

  function_name = each.value.name
  # The hash: the provider's documents say that code which changed alone is not sent.
  description          = "${each.value.description}; package ${substr(filesha256(each.value.package), 0, 16)}"
  runtime              = "custom.debian12"
  handler              = "bootstrap" # the provider wants one; custom runtimes have none
  memory_size          = each.value.memory
  cpu                  = each.value.cpu
  disk_size            = 512
  timeout              = var.timeout
  instance_concurrency = each.value.concurrency
  internet_access      = true # the ONS OpenAPI; beside a vpc too
  role                 = alicloud_ram_role.function[each.key].arn

  environment_variables = each.value.settings

  code {
    zip_file = filebase64(each.value.package)
  }

  custom_runtime_config {
    command = ["/code/bootstrap"]
    port    = 9000
  }

  instance_lifecycle_config {
    # POST /initialize: the settings are checked before the first event.
    initializer {
      handler = "initialize"
      timeout = 10
    }

    # GET /pre-stop: waits up to 20 s for pushes in flight.
    pre_stop {
      handler = "preStop"
      timeout = 30
    }
  }

  log_config {
    project                 = alicloud_log_project.function.project_name
    logstore                = alicloud_log_store.function.logstore_name
    log_begin_rule          = "None" # one line is one entry
    enable_request_metrics  = true
    enable_instance_metrics = true
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]

    content {
      vpc_id            = vpc_config.value.vpc_id
      vswitch_ids       = [vpc_config.value.vswitch_id]
      security_group_id = vpc_config.value.security_group_id
    }
  }

  lifecycle {
    precondition {
      condition     = var.timeout >= var.push_timeout + 4
      error_message = "timeout must be at least push_timeout + 4: no push would ever begin."
    }

    precondition {
      condition     = var.state != "redis" || var.redis_url != null
      error_message = "state redis needs redis_url."
    }

    precondition {
      condition     = var.state != "redis" || var.vpc != null || can(regex("^rediss://", var.redis_url))
      error_message = "redis:// sends its password in the clear: give vpc, or use rediss://."
    }

    precondition {
      condition     = !local.http || var.http_token != null
      error_message = "http_jwks needs http_token: without one everybody gets 401."
    }
  }

  depends_on = [alicloud_ram_role_policy_attachment.function]
}

# The documents do not say whether this counts instances or invocations; the
# numbers are right for either, and slower for the second.
resource "alicloud_fcv3_concurrency_config" "function" {
  for_each = local.functions

  function_name        = alicloud_fcv3_function.function[each.key].function_name
  reserved_concurrency = each.value.instances
}

# For calls that Function Compute itself queues: the timer, and a person with
# "repush inject". The streams call synchronously and have retries of their own.
resource "alicloud_fcv3_async_invoke_config" "function" {
  for_each = local.functions

  function_name                  = alicloud_fcv3_function.function[each.key].function_name
  qualifier                      = "LATEST"
  async_task                     = true # so that a task id is taken only once
  max_async_retry_attempts       = 8    # the most; deferred work comes back this way
  max_async_event_age_in_seconds = 86400

  destination_config {
    on_failure {
      destination = "${local.queue_arn[each.value.dead_letters]}/messages"
    }
  }
}

resource "alicloud_log_project" "function" {
  project_name = "${var.name}-${local.account}" # unique in all of Alibaba Cloud
  description  = "Log of the functions ${var.name} and ${var.name}-plan"
}

resource "alicloud_log_store" "function" {
  project_name          = alicloud_log_project.function.project_name
  logstore_name         = "function"
  retention_period      = var.log_retention_days
  shard_count           = 1
  auto_split            = true
  max_split_shard_count = 8
}

resource "alicloud_log_store_index" "function" {
  project  = alicloud_log_project.function.project_name
  logstore = alicloud_log_store.function.logstore_name

  full_text {
    case_sensitive = false
    token          = ", '\";=()[]{}?@&<>/:\n\t\r"
  }
}
