# Requests and results have buses of their own: a result never meets a rule that
# leads to the function.
resource "alicloud_event_bridge_event_bus" "requests" {
  event_bus_name = "${var.name}-requests"
  description    = "repush:Message:Requested, for ${var.name}"
}

resource "alicloud_event_bridge_event_bus" "results" {
  event_bus_name = "${var.name}-results"
  description    = "repush:Message:Completed and repush:Plan:Completed, from ${var.name} and ${var.name}-plan"
}

# A rule could call the function itself, but how it spells a function of
# Function Compute 3.0 is not documented. By way of the queue everything that
# waits is in one place.
resource "alicloud_event_bridge_rule" "requests" {
  event_bus_name = alicloud_event_bridge_event_bus.requests.event_bus_name
  rule_name      = "requests"
  description    = "Requests to the queue that the function reads"
  status         = "ENABLE"
  filter_pattern = jsonencode({ type = ["repush:Message:Requested"] })

  targets {
    target_id           = "queue"
    type                = "acs.mns.queue"
    endpoint            = "acs:mns:${var.region}:${local.account}:queues/${alicloud_message_service_queue.queue["requests"].queue_name}"
    push_retry_strategy = "EXPONENTIAL_DECAY_RETRY"

    dead_letter_queue {
      arn = local.queue_arn["dead-letters"]
    }

    param_list {
      resource_key = "queue"
      form         = "CONSTANT"
      value        = alicloud_message_service_queue.queue["requests"].queue_name
    }

    param_list {
      resource_key = "Body"
      form         = "ORIGINAL"
    }
  }
}

resource "alicloud_event_bridge_rule" "attention" {
  for_each = local.attention

  event_bus_name = alicloud_event_bridge_event_bus.results.event_bus_name
  rule_name      = each.key
  description    = "Results that a person has to look at: ${each.key}"
  status         = "ENABLE"
  filter_pattern = jsonencode({ type = ["repush:Message:Completed"], data = each.value })

  targets {
    target_id           = "queue"
    type                = "acs.mns.queue"
    endpoint            = "acs:mns:${var.region}:${local.account}:queues/${alicloud_message_service_queue.queue[each.key].queue_name}"
    push_retry_strategy = "EXPONENTIAL_DECAY_RETRY"

    dead_letter_queue {
      arn = local.queue_arn.buried
    }

    param_list {
      resource_key = "queue"
      form         = "CONSTANT"
      value        = alicloud_message_service_queue.queue[each.key].queue_name
    }

    param_list {
      resource_key = "Body"
      form         = "ORIGINAL"
    }
  }
}
