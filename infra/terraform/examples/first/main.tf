# Fill these five in, build the package (scripts/build.sh), then:
#   terraform init && terraform apply
locals {
  region        = "cn-hangzhou"
  instance      = "MQ_INST_1234567890123456_BXabcdef"
  group         = "GID_billing"
  topic         = "orders"
  contact_group = "oncall"
}

terraform {
  required_version = ">= 1.5.0, < 2.0.0"

  required_providers {
    alicloud = {
      source  = "aliyun/alicloud"
      version = "~> 1.289"
    }
  }
}

provider "alicloud" {
  region = local.region # keys come from the environment or a profile
}

module "repush" {
  source = "../.."

  region         = local.region
  allow          = [{ instance = local.instance, group = local.group, topic = local.topic }]
  contact_groups = [local.contact_group]
  package        = "${path.module}/../../../../.build/repush-linux-amd64.zip"
  plan_package   = "${path.module}/../../../../.build/plan-linux-amd64.zip"
}

output "requests_bus" {
  description = "Where requests may be sent: eventbridge://NAME."
  value       = module.repush.requests_bus
}

output "queues" {
  description = "Name of every queue, by what it is for."
  value       = module.repush.queues
}
