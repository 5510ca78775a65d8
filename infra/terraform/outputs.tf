output "function_name" {
  description = "For repush inject: fc://NAME."
  value       = alicloud_fcv3_function.function["repush"].function_name
}

output "plan_function_name" {
  description = "The function that plans: fc://NAME."
  value       = alicloud_fcv3_function.function["plan"].function_name
}

output "requests_bus" {
  description = "Where requests may be sent: eventbridge://NAME."
  value       = alicloud_event_bridge_event_bus.requests.event_bus_name
}

output "requests_queue" {
  description = "Where requests may be sent: mns://queues/NAME."
  value       = alicloud_message_service_queue.queue["requests"].queue_name
}

output "requests_topic" {
  description = "Where requests may be sent: mns://topics/NAME."
  value       = alicloud_message_service_topic.requests.topic_name
}

output "results_bus" {
  description = "Bus of the result events."
  value       = alicloud_event_bridge_event_bus.results.event_bus_name
}

output "queues" {
  description = "Name of every queue, by what it is for."
  value       = { for name, queue in alicloud_message_service_queue.queue : name => queue.queue_name }
}

output "role_arns" {
  description = "The roles that the functions run as, by repush and plan."
  value       = { for name, role in alicloud_ram_role.function : name => role.arn }
}

output "webhook_url" {
  description = "Address for alerts by webhook, to be ended in /?token=TOKEN; null without one."
  value       = one([for t in alicloud_fcv3_trigger.webhook : one([for h in t.http_trigger : h.url_internet])])
}

output "url" {
  description = "Address of the HTTP trigger; null without one."
  value       = one([for t in alicloud_fcv3_trigger.http : one([for h in t.http_trigger : h.url_internet])])
}
