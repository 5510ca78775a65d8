locals {
  mq = "acs:mq:${var.region}:${local.account}"

  # With a namespace a topic or group is named INSTANCE%NAME, without one NAME.
  topics = distinct([for a in var.allow : a.namespace ? "${local.mq}:${a.instance}%${a.topic}" : "${local.mq}:${a.topic}"])
  groups = distinct([for a in var.allow : a.namespace ? "${local.mq}:${a.instance}%${a.group}" : "${local.mq}:${a.group}"])

  # What each function calls. mq:SUB is the right to consume the topic as well,
  # so the one that reads has not got it.
  calls = {
    repush = [
      { Effect = "Allow", Action = ["mq:SUB"], Resource = local.topics },                     # OnsMessagePush
      { Effect = "Allow", Action = ["mq:QueryConsumerConnection"], Resource = local.groups }, # OnsConsumerGetConnection
    ]

    plan = [
      { Effect = "Allow", Action = ["mq:QueryMessage", "mq:QueryMessageTrace"], Resource = local.topics },
      { Effect = "Allow", Action = ["mq:QueryDLQMessage", "mq:QueryConsumerAccumulate", "mq:QueryConsumerConnection"], Resource = local.groups },
      { Effect = "Allow", Action = ["mns:BatchSendMessage"], Resource = ["${local.queue_arn.requests}/messages"] },
    ]
  }
}

resource "alicloud_ram_role" "function" {
  for_each = local.functions

  role_name            = "${each.value.name}-function"
  description          = "What the function ${each.value.name} may do"
  max_session_duration = 3600

  assume_role_policy_document = jsonencode({
    Version = "1"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = ["fc.aliyuncs.com"] }
    }]
  })
}

resource "alicloud_ram_policy" "function" {
  for_each = local.functions

  policy_name     = "${each.value.name}-function"
  description     = "What ${each.value.name} calls, and: send results, dead-letter, log; nothing else"
  rotate_strategy = "DeleteOldestNonDefaultVersionWhenLimitExceeded"

  policy_document = jsonencode({
    Version = "1"
    Statement = concat(local.calls[each.key], [
      # Every call looks the instance up. The documents name one action or the other.
      {
        Effect   = "Allow"
        Action   = ["mq:OnsInstanceBaseInfo", "mq:QueryInstanceBaseInfo"]
        Resource = distinct([for a in var.allow : "acs:mq:*:*:${a.instance}"])
      },
      # Result events.
      {
        Effect   = "Allow"
        Action   = ["eventbridge:PutEvents"]
        Resource = ["acs:eventbridge:${var.region}:${local.account}:eventbus/${alicloud_event_bridge_event_bus.results.event_bus_name}"]
      },
      # The destination of asynchronous calls that failed, written in the function's name.
      { Effect = "Allow", Action = ["mns:SendMessage"], Resource = ["${local.queue_arn[each.value.dead_letters]}/messages"] },
      # The platform writes the log in the function's name.
      {
        Effect   = "Allow"
        Action   = ["log:PostLogStoreLogs"]
        Resource = ["acs:log:${var.region}:${local.account}:project/${alicloud_log_project.function.project_name}/logstore/${alicloud_log_store.function.logstore_name}"]
      },
    ])
  })
}

resource "alicloud_ram_role_policy_attachment" "function" {
  for_each = local.functions

  role_name   = alicloud_ram_role.function[each.key].role_name
  policy_name = alicloud_ram_policy.function[each.key].policy_name
  policy_type = "Custom"
}

# Joining a network needs rights on network interfaces.
resource "alicloud_ram_role_policy_attachment" "vpc" {
  for_each = { for name, function in local.functions : name => function if var.vpc != null }

  role_name   = alicloud_ram_role.function[each.key].role_name
  policy_name = "AliyunECSNetworkInterfaceManagementAccess"
  policy_type = "System"
}
