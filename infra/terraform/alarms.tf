# Alarms repeat after silence_time; its default is a day, in which a second
# incident would go unnoticed. 300 s is the least.
#
# CloudMonitor knows no result events and no age of a message. So a rule on the
# result bus puts each result that a person has to look at into a queue of its
# own, and the alarm is on that queue: it repeats until somebody took the result
# out. Waiting work has two: results that were decided late, and the queue of
# requests not being empty for as long.
locals {
  silence = 300

  # The reference of the API ends the address like this, its guide in "messages".
  alerts_target = "${local.queue_arn.alerts}/message"

  # Groups and topics with a wildcard have no metric of their own.
  watched        = { for a in var.allow : "${a.instance}-${a.group}-${a.topic}" => a if !strcontains("${a.group}${a.topic}", "*") }
  watched_groups = { for a in var.allow : "${a.instance}-${a.group}" => a... if !strcontains(a.group, "*") }

  # Queues that should be empty.
  empty = setunion(["dead-letters", "buried"], keys(local.attention))
}

resource "alicloud_cms_alarm" "lag" {
  for_each = local.watched

  name              = "${var.name}-lag-${each.key}"
  project           = "acs_rocketmq"
  metric            = "ConsumerLagPerGidTopic"
  metric_dimensions = jsonencode([{ userId = local.account, instanceId = each.value.instance, groupId = each.value.group, topic = each.value.topic }])
  period            = 60
  silence_time      = local.silence
  contact_groups    = var.contact_groups

  escalations_warn {
    comparison_operator = ">="
    statistics          = "Sum"
    threshold           = tostring(var.lag_threshold)
    times               = 3
  }

  targets {
    target_id = "alerts"
    arn       = local.alerts_target
    level     = "Warn"
  }
}

# For the group: its dead letters are one incident, whatever their topics.
resource "alicloud_cms_alarm" "dead_letters" {
  for_each = local.watched_groups

  name              = "${var.name}-dead-letters-${each.key}"
  project           = "acs_rocketmq"
  metric            = "SendDLQMessageCountPerGid"
  metric_dimensions = jsonencode([{ userId = local.account, instanceId = each.value[0].instance, groupId = each.value[0].group }])
  period            = 60
  silence_time      = local.silence
  contact_groups    = var.contact_groups

  escalations_critical {
    comparison_operator = ">="
    statistics          = "Sum"
    threshold           = "1"
    times               = 1
  }

  targets {
    target_id = "alerts"
    arn       = local.alerts_target
    level     = "Critical"
  }
}

resource "alicloud_cms_alarm" "not_empty" {
  for_each = local.empty

  name              = "${var.name}-${each.key}"
  project           = "acs_mns_new"
  metric            = "ActiveMessages"
  metric_dimensions = jsonencode([{ userId = local.account, region = var.region, queue = alicloud_message_service_queue.queue[each.key].queue_name }])
  period            = 300 # the metric's own step
  silence_time      = local.silence
  contact_groups    = var.contact_groups

  escalations_critical {
    comparison_operator = ">="
    statistics          = "Maximum"
    threshold           = "1"
    times               = 1
  }
}

# Active is what nobody took yet, inactive what was taken and not finished.
resource "alicloud_cms_alarm" "waiting" {
  for_each = toset(["ActiveMessages", "InactiveMessages"])

  name              = "${var.name}-waiting-${lower(each.key)}"
  project           = "acs_mns_new"
  metric            = each.key
  metric_dimensions = jsonencode([{ userId = local.account, region = var.region, queue = alicloud_message_service_queue.queue["requests"].queue_name }])
  period            = 300
  silence_time      = local.silence
  contact_groups    = var.contact_groups

  escalations_warn {
    comparison_operator = ">="
    statistics          = "Minimum"
    threshold           = "1"
    times               = var.waiting_minutes / 5
  }
}
