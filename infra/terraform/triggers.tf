locals {
  # EventBridge takes back only whole batches. In memory that means one event an
  # invocation; with shared state what is deferred is parked, and a batch comes
  # back only while Redis is away. 32 requests of 2 KB fit a dead letter, which
  # has 64 KB. 176 retries over one day, then the dead-letter queue; nothing
  # blocks the stream.
  run_options = {
    mode            = "event-streaming"
    maximumTasks    = var.parallel_deliveries
    errorsTolerance = "ALL"
    retryStrategy   = { PushRetryStrategy = "EXPONENTIAL_DECAY_RETRY" }
    batchWindow     = local.batch
  }
  batch = local.shared ? { CountBasedWindow = 32, TimeBasedWindow = 1 } : local.single

  # Each queue that is read, by whom, and where that is dead-lettered. An alert
  # has a verdict of its own, whatever the state.
  single = { CountBasedWindow = 1, TimeBasedWindow = 0 }
  read = {
    "requests"     = { by = "repush", enabled = true, batch = local.batch, dead_letters = "dead-letters" }
    "dead-letters" = { by = "repush", enabled = var.redrive, batch = local.batch, dead_letters = "buried" } # never to where it comes from
    "alerts"       = { by = "plan", enabled = true, batch = local.single, dead_letters = "buried" }
  }
}

resource "alicloud_fcv3_trigger" "queue" {
  for_each = local.read

  function_name = alicloud_fcv3_function.function[each.value.by].function_name
  qualifier     = "LATEST"
  trigger_name  = "queue-${each.key}"
  trigger_type  = "eventbridge"
  description   = "The queue ${local.queue_name[each.key]}"

  trigger_config = jsonencode({
    triggerEnable          = each.value.enabled
    asyncInvocationType    = false # false is synchronous; one page says the reverse, so look at the console
    eventRuleFilterPattern = "{}"
    eventSinkConfig        = { deliveryOption = { mode = "event-streaming", eventSchema = "CloudEvents" } }
    eventSourceConfig = {
      eventSourceType = "MNS"
      eventSourceParameters = {
        sourceMNSParameters = {
          RegionId       = var.region
          QueueName      = alicloud_message_service_queue.queue[each.key].queue_name
          IsBase64Decode = false # the function reads both, EventBridge only base64
        }
      }
    }
    runOptions = merge(local.run_options, { batchWindow = each.value.batch, deadLetterQueue = { Arn = local.queue_arn[each.value.dead_letters] } })
  })
}

resource "alicloud_fcv3_trigger" "rocketmq" {
  for_each = var.rocketmq

  function_name = alicloud_fcv3_function.function["repush"].function_name
  qualifier     = "LATEST"
  trigger_name  = "rocketmq-${each.key}"
  trigger_type  = "eventbridge"
  description   = "Requests from the topic ${each.value.topic}"

  trigger_config = jsonencode({
    triggerEnable          = true
    asyncInvocationType    = false
    eventRuleFilterPattern = "{}"
    eventSinkConfig        = { deliveryOption = { mode = "event-streaming", eventSchema = "CloudEvents" } }
    eventSourceConfig = {
      eventSourceType = "RocketMQ"
      eventSourceParameters = {
        sourceRocketMQParameters = { for name, value in {
          RegionId                = var.region
          InstanceId              = each.value.instance
          InstanceType            = each.value.instance_type
          Topic                   = each.value.topic
          GroupID                 = each.value.group
          Tag                     = each.value.tag
          FilterType              = "Tag"
          Offset                  = "CONSUME_FROM_LAST_OFFSET"
          InstanceEndpoint        = each.value.endpoint
          InstanceNetwork         = each.value.endpoint == null ? null : "PrivateNetwork"
          InstanceVpcId           = each.value.vpc_id
          InstanceVSwitchIds      = each.value.vswitch_id
          InstanceSecurityGroupId = each.value.security_group_id
          AuthType                = each.value.username == null ? null : "ACL"
          InstanceUsername        = each.value.username
          InstancePassword        = each.value.username == null ? null : var.rocketmq_passwords[each.key]
        } : name => value if value != null }
      }
    }
    runOptions = merge(local.run_options, { deadLetterQueue = { Arn = local.queue_arn["dead-letters"] } })
  })
}

# The sweep goes on with parked work and finishes what nobody redelivers; in
# memory nothing is parked. It goes on with scans and open incidents, in memory
# too, where it also keeps the instance that knows them from being idle.
resource "alicloud_fcv3_trigger" "sweep" {
  for_each = toset(local.shared ? ["repush", "plan"] : ["plan"])

  function_name = alicloud_fcv3_function.function[each.key].function_name
  qualifier     = "LATEST"
  trigger_name  = "sweep"
  trigger_type  = "timer"
  description   = "Work that is due, and leases that have lapsed"

  trigger_config = jsonencode({
    enable         = true
    cronExpression = "@every 1m"
    payload        = jsonencode({ specversion = "1.0", id = "every-minute", source = "repush/timer", type = "repush:Sweep:Requested" })
  })
}

# Two keys for one door: the platform checks the JWT, the function its token. A
# signed trigger would need the Authorization header that the token stands in.
resource "alicloud_fcv3_trigger" "http" {
  count = local.http ? 1 : 0

  function_name = alicloud_fcv3_function.function["repush"].function_name
  qualifier     = "LATEST"
  trigger_name  = "http"
  trigger_type  = "http"
  description   = "Requests by HTTP"

  trigger_config = jsonencode({
    authType           = "jwt"
    authConfig         = jsonencode({ jwks = jsondecode(var.http_jwks), tokenLookup = "header:X-Repush-Jwt:Bearer" })
    methods            = ["POST"]
    disableURLInternet = false
  })
}

# Alerts from monitors that cannot write to a queue. The function's own token is
# the only lock: who sends webhooks can neither sign nor show a JWT.
resource "alicloud_fcv3_trigger" "webhook" {
  count = local.webhook ? 1 : 0

  function_name = alicloud_fcv3_function.function["plan"].function_name
  qualifier     = "LATEST"
  trigger_name  = "webhook"
  trigger_type  = "http"
  description   = "Alerts by webhook"

  trigger_config = jsonencode({
    authType           = "anonymous"
    methods            = ["POST"]
    disableURLInternet = false
  })
}
