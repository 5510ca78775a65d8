# Queues, and what each is for:
#   requests      what waits to be pushed; what arrives on the bus or the topic lands here
#   dead-letters  what was given up; redrive sends it through once more
#   buried        what failed after that too; a person has to look
#   alerts        alarms of lag and dead letters, and plan requests
#   unknown, failed, abandoned, late   results that a person has to look at
locals {
  # Results that wake somebody, each with its filter on the data of the event.
  attention = {
    unknown   = { outcome = ["unknown"] }
    failed    = { outcome = ["failed"] }
    abandoned = { outcome = ["abandoned"] }
    late      = { waitMs = [{ numeric = [">", var.waiting_minutes * 60000] }] }
  }

  queues = merge(
    { for name in ["dead-letters", "buried", "alerts"] : name => { dead_letters = null } },
    { for name in keys(local.attention) : name => { dead_letters = null } },
    { requests = { dead_letters = "dead-letters" } },
  )

  queue_name = { for name in keys(local.queues) : name => "${var.name}-${name}" }
  queue_arn  = { for name, queue in local.queue_name : name => "acs:mns:${var.region}:${local.account}:/queues/${queue}" }
}

resource "alicloud_message_service_queue" "queue" {
  for_each = local.queues

  queue_name               = local.queue_name[each.key]
  delay_seconds            = 0
  maximum_message_size     = 65536
  message_retention_period = 604800          # 7 days, the most: longer than messages live
  visibility_timeout       = 6 * var.timeout # nobody else gets it while it is worked on
  polling_wait_seconds     = 30

  # The stream gives up first and dead-letters by itself; this is for what it
  # keeps taking and never finishes.
  dlq_policy {
    enabled                  = each.value.dead_letters != null
    dead_letter_target_queue = each.value.dead_letters == null ? null : local.queue_name[each.value.dead_letters]
    max_receive_count        = 100
  }
}

# For senders that publish to a topic.
resource "alicloud_message_service_topic" "requests" {
  topic_name       = "${var.name}-requests"
  max_message_size = 65536
  enable_logging   = false
}

resource "alicloud_message_service_subscription" "requests" {
  topic_name            = alicloud_message_service_topic.requests.topic_name
  subscription_name     = "queue"
  push_type             = "queue"
  endpoint              = alicloud_message_service_queue.queue["requests"].queue_name
  notify_content_format = "SIMPLIFIED" # the message's own body
  notify_strategy       = "EXPONENTIAL_DECAY_RETRY"

  dlq_policy {
    enabled                  = true
    dead_letter_target_queue = alicloud_message_service_queue.queue["dead-letters"].queue_name
  }
}
