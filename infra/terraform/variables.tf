# What must be given.

variable "region" {
  description = "Region of the RocketMQ instance; the function and its queues live there too, as triggers need it. The provider must use the same one."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z0-9-]{2,60}$", var.region))
    error_message = "region is a region id, like cn-hangzhou."
  }
}

variable "allow" {
  description = "What may be pushed, and what the role is given rights on: one entry for each consumer group and topic. * in group and topic is any run of characters. Set namespace to false for an instance without one (its topics are named account-wide)."
  type = list(object({
    instance  = string
    group     = string
    topic     = string
    namespace = optional(bool, true)
  }))

  validation {
    condition     = length(var.allow) > 0 && alltrue([for a in var.allow : can(regex("^[^/,]+/[^/,]+/[^/,]+$", "${a.instance}/${a.group}/${a.topic}"))])
    error_message = "allow needs at least one entry, and no part may be empty or hold a slash or comma."
  }
}

variable "contact_groups" {
  description = "CloudMonitor contact groups that alarms go to. They must exist."
  type        = list(string)

  validation {
    condition     = length(var.contact_groups) > 0
    error_message = "contact_groups needs at least one group: an alarm that reaches nobody is none."
  }
}

variable "package" {
  description = "Path of the zip repush-linux-amd64 that scripts/build.sh makes, with the binary as bootstrap."
  type        = string

  validation {
    condition     = endswith(var.package, ".zip")
    error_message = "package is the path of a zip file."
  }
}

variable "plan_package" {
  description = "Path of the zip plan-linux-amd64 that scripts/build.sh makes."
  type        = string

  validation {
    condition     = endswith(var.plan_package, ".zip")
    error_message = "plan_package is the path of a zip file."
  }
}

# How it is named and sized.

variable "name" {
  description = "Name of the function that pushes, and the beginning of every other name."
  type        = string
  default     = "repush"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name has 3 to 32 lower-case letters, digits and -, and begins with a letter."
  }
}

variable "timeout" {
  description = "Seconds that one invocation may take. At least push_timeout + 4 (2 s to begin with, 2 s to record and emit). At most 60: after a crash an item is blocked for so long. Function Compute ends invocations by EventBridge after 300."
  type        = number
  default     = 60

  validation {
    condition     = var.timeout >= 5 && var.timeout <= 60 && floor(var.timeout) == var.timeout
    error_message = "timeout is 5 to 60 seconds."
  }
}

variable "instance_concurrency" {
  description = "Invocations that one instance serves at a time. Pushes share the account's quota inside an instance, so one instance with many invocations needs no Redis. 10 pushes a second that take up to 15 s each are 150 in flight."
  type        = number
  default     = 150

  validation {
    condition     = var.instance_concurrency >= 1 && var.instance_concurrency <= 200
    error_message = "instance_concurrency is 1 to 200."
  }
}

variable "max_instances" {
  description = "Instances at most, with shared state; in memory it is always 1. One does 10 pushes a second; more of them outlive one that hangs."
  type        = number
  default     = 4

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100
    error_message = "max_instances is 1 to 100."
  }
}

variable "log_retention_days" {
  description = "Days that the function's log is kept."
  type        = number
  default     = 30

  validation {
    condition     = var.log_retention_days >= 1 && var.log_retention_days <= 3650
    error_message = "log_retention_days is 1 to 3650."
  }
}

# The function's settings; its README has the same table.

variable "ons_endpoint" {
  description = "REPUSH_ONS_ENDPOINT: another endpoint of the ONS OpenAPI, as https://HOST. Empty means the region's."
  type        = string
  default     = ""

  validation {
    condition     = var.ons_endpoint == "" || can(regex("^https://[^/?#@]+$", var.ons_endpoint))
    error_message = "ons_endpoint is https://HOST, without path or query."
  }
}

variable "state" {
  description = "REPUSH_STATE: where ledger and quota live. memory: one instance, which forgets when it ends. redis: the server of redis_url. tair: an instance that this module makes, see tair. With redis and tair what cannot be decided yet is parked there, and the sweep goes on with it."
  type        = string
  default     = "memory"

  validation {
    condition     = contains(["memory", "redis", "tair"], var.state)
    error_message = "state is memory, redis or tair."
  }
}

variable "redis_url" {
  description = "For state redis: rediss://USER:PASSWORD@HOST:PORT/DB, or redis://… inside vpc. Redis 6.2 or newer that never evicts (maxmemory-policy noeviction) and writes to disk (appendonly yes)."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.redis_url == null || can(regex("^rediss?://[^/?#\\s]+(/[0-9]+)?$", var.redis_url))
    error_message = "redis_url is redis:// or rediss:// with a host and perhaps a database, without query."
  }
}

variable "tair" {
  description = "For state tair: the class, zone and version of the instance. It stands in vpc."
  type = object({
    zone_id        = string
    instance_class = optional(string, "tair.rdb.1g")
    engine_version = optional(string, "7.0")
  })
  default = null

  validation {
    condition     = var.tair == null || contains(["5.0", "6.0", "7.0"], try(var.tair.engine_version, ""))
    error_message = "tair.engine_version is 5.0, 6.0 or 7.0."
  }
}

variable "tair_password" {
  description = "For state tair: its password, 8 to 32 characters of at least three kinds."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.tair_password == null || can(regex("^[A-Za-z0-9!@#$%^&*()_+=-]{8,32}$", var.tair_password))
    error_message = "tair_password has 8 to 32 letters, digits and !@#$%^&*()_+-=."
  }
}

variable "vpc" {
  description = "The network that the function joins to reach Redis; redis:// needs it. It keeps its way to the internet, which the ONS OpenAPI needs. Null: none."
  type = object({
    vpc_id            = string
    vswitch_id        = string
    security_group_id = string
  })
  default = null

  validation {
    condition     = var.vpc == null || can(regex("^vpc-", try(var.vpc.vpc_id, "")))
    error_message = "vpc.vpc_id begins with vpc-."
  }
}

variable "qps" {
  description = "REPUSH_QPS: pushes a second for the account, region and API. The quota is 10, shared with everybody else in the account."
  type        = number
  default     = 10

  validation {
    condition     = var.qps >= 0.1 && var.qps <= 100000
    error_message = "qps is 0.1 to 100000."
  }
}

variable "on_unknown" {
  description = "REPUSH_ON_UNKNOWN: a push of unknown fate is reported (hold), or repeated once and marked (push)."
  type        = string
  default     = "hold"

  validation {
    condition     = contains(["hold", "push"], var.on_unknown)
    error_message = "on_unknown is hold or push."
  }
}

variable "max_pushes" {
  description = "REPUSH_MAX_PUSHES: pushes for each message over its lifetime, accepted and unknown ones."
  type        = number
  default     = 3

  validation {
    condition     = var.max_pushes >= 1 && var.max_pushes <= 1000
    error_message = "max_pushes is 1 to 1000."
  }
}

variable "give_up_after" {
  description = "REPUSH_GIVE_UP_AFTER: what is undecided for so long is abandoned. EventBridge tries for 86,015 s; less than that, and we say abandoned before it says dead letter."
  type        = string
  default     = "23h"

  validation {
    condition     = can(regex("^[1-9][0-9]*[mh]$", var.give_up_after))
    error_message = "give_up_after is a number of m or h, 1m to 168h."
  }
}

variable "max_age" {
  description = "REPUSH_MAX_AGE: messages stored longer ago are expired without a call. Instances keep messages for 72 hours."
  type        = string
  default     = "72h"

  validation {
    condition     = can(regex("^[1-9][0-9]*h$", var.max_age))
    error_message = "max_age is a number of h, 1h to 720h."
  }
}

variable "push_timeout" {
  description = "REPUSH_PUSH_TIMEOUT in seconds: one push call. The broker itself waits up to 10 s for the listener."
  type        = number
  default     = 15

  validation {
    condition     = var.push_timeout >= 1 && var.push_timeout <= 56
    error_message = "push_timeout is 1 to 56 seconds, so that timeout can hold it."
  }
}

variable "log_level" {
  description = "REPUSH_LOG_LEVEL: debug, info, warn or error."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.log_level)
    error_message = "log_level is debug, info, warn or error."
  }
}

# The settings of the function that plans.

variable "plan_lag" {
  description = "REPUSH_PLAN_LAG: alarms of lag end at the manifest, or send requests (push), each marked maybeDuplicate: the queue delivers those messages as well."
  type        = string
  default     = "manifest"

  validation {
    condition     = contains(["manifest", "push"], var.plan_lag)
    error_message = "plan_lag is manifest or push."
  }
}

variable "plan_cooldown" {
  description = "REPUSH_PLAN_COOLDOWN: alarms that repeat join the incident until so long after its end."
  type        = string
  default     = "30m"

  validation {
    condition     = can(regex("^[1-9][0-9]*[mh]$", var.plan_cooldown))
    error_message = "plan_cooldown is a number of m or h, 1m to 24h."
  }
}

variable "plan_limit" {
  description = "REPUSH_PLAN_LIMIT: messages of one plan."
  type        = number
  default     = 1000

  validation {
    condition     = var.plan_limit >= 1 && var.plan_limit <= 10000
    error_message = "plan_limit is 1 to 10000."
  }
}

variable "group_budget" {
  description = "REPUSH_GROUP_BUDGET: pushes that alarms may ask for in 24 hours, for each consumer group. With 0 alarms ask for none. In memory an instance that ends forgets what it spent."
  type        = number
  default     = 1000

  validation {
    condition     = var.group_budget >= 0 && var.group_budget <= 100000
    error_message = "group_budget is 0 to 100000."
  }
}

variable "webhook_token" {
  description = "REPUSH_WEBHOOK_TOKEN: opens an address to everybody who knows it, for alerts by webhook and nothing else; 16 to 512 visible ASCII characters, none of + & # % ;. Null means no address: alarms come by the queue."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.webhook_token == null || can(regex("^[!-~]{16,512}$", var.webhook_token)) && !can(regex("[+&#%;]", var.webhook_token))
    error_message = "webhook_token has 16 to 512 visible ASCII characters, and none of + & # % ; which mean something else in a URL."
  }
}

# Ways in, beside the queue and the bus that are always there.

variable "rocketmq" {
  description = "Topics that carry requests, each with a consumer group of its own that nothing else uses. An instance of RocketMQ 5.x has instance_type Cloud_5, is reached by its endpoint in its network, and needs a user whose password is in rocketmq_passwords. Never a topic whose messages are pushed: each would be taken for a request."
  type = map(object({
    instance          = string
    topic             = string
    group             = string
    tag               = optional(string, "*")
    instance_type     = optional(string, "Cloud_4")
    endpoint          = optional(string)
    vpc_id            = optional(string)
    vswitch_id        = optional(string)
    security_group_id = optional(string)
    username          = optional(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for name, s in var.rocketmq : can(regex("^[a-z][a-z0-9-]{0,30}$", name)) && (s.instance_type == "Cloud_4" || s.instance_type == "Cloud_5" && s.endpoint != null)])
    error_message = "rocketmq has names of lower-case letters, digits and -, and instance types Cloud_4, or Cloud_5 with an endpoint."
  }
}

variable "rocketmq_passwords" {
  description = "Password of each username in rocketmq, by the same name."
  type        = map(string)
  default     = {}
  sensitive   = true

  validation {
    condition     = alltrue([for name, password in var.rocketmq_passwords : password != ""])
    error_message = "rocketmq_passwords has no empty password."
  }
}

variable "http_jwks" {
  description = "The JSON Web Key Set, {\"keys\": […]}, of those who may call by HTTP; null means no HTTP trigger. A call carries its JWT in X-Repush-Jwt and http_token in Authorization, each after Bearer."
  type        = string
  default     = null

  validation {
    condition     = var.http_jwks == null || can(length(jsondecode(var.http_jwks).keys) > 0)
    error_message = "http_jwks is a JSON object with keys."
  }
}

variable "http_token" {
  description = "REPUSH_HTTP_TOKEN: bearer token of those who call by HTTP, 16 to 512 visible ASCII characters. Without one they get 401."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.http_token == null || can(regex("^[!-~]{16,512}$", var.http_token))
    error_message = "http_token has 16 to 512 visible ASCII characters."
  }
}

variable "parallel_deliveries" {
  description = "Deliveries that one stream may make at the same time (maximumTasks). What it does for RocketMQ and queues is not documented: measure before raising it."
  type        = number
  default     = 3

  validation {
    condition     = var.parallel_deliveries >= 1 && var.parallel_deliveries <= 100
    error_message = "parallel_deliveries is 1 to 100."
  }
}

variable "redrive" {
  description = "true sends what lies in the dead-letter queue through the function once more, while it is true. What fails again ends in the buried queue."
  type        = bool
  default     = false
}

# When somebody is woken.

variable "lag_threshold" {
  description = "Messages that a group of allow may be behind before its alarm."
  type        = number
  default     = 1000

  validation {
    condition     = var.lag_threshold >= 1
    error_message = "lag_threshold is at least 1."
  }
}

variable "waiting_minutes" {
  description = "Minutes that a request may wait, decided late or still in the queue, before its alarm."
  type        = number
  default     = 15

  validation {
    condition     = var.waiting_minutes >= 5 && var.waiting_minutes <= 1440 && var.waiting_minutes % 5 == 0
    error_message = "waiting_minutes is 5 to 1440, in steps of 5."
  }
}
