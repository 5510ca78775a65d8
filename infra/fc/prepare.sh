#!/bin/sh
# Makes what s.yaml expects beside the functions: four queues, the bus of the
# results, a role for each and the operator's policy. Run it once, with the five
# names exported; what exists already is left as it is. With REDIS_VPC exported as
# well, the functions may join a network. With CONTACT_GROUP, a contact group of
# CloudMonitor, the group's dead letters raise an alarm that plan hears of.
set -eu
for name in "${REGION:?}" "${ACCOUNT:?}" "${INSTANCE:?}" "${GROUP:?}" "${TOPIC:?}" "${CONTACT_GROUP-}"; do
  case $name in
  *[!A-Za-z0-9_-]*) echo "prepare: a name may have letters, digits, _ and - only" >&2; exit 1 ;;
  esac
done
cd "$(dirname "$0")/../ram"

# policy FILE fills the names in.
policy() {
  sed -e "s/[$]{REGION}/$REGION/g" -e "s/[$]{ACCOUNT}/$ACCOUNT/g" -e "s/[$]{INSTANCE}/$INSTANCE/g" \
    -e "s/[$]{GROUP}/$GROUP/g" -e "s/[$]{TOPIC}/$TOPIC/g" "$1"
}

# make COMMAND … runs the CLI, and takes "exists already" for done.
make() {
  if answer=$(aliyun "$@" 2>&1); then
    echo "$1 $2: done"
    return
  fi
  case $answer in
  *NotExist*) ;;
  *Exist*) echo "$1 $2: exists already"; return ;;
  esac
  echo "prepare: aliyun $1 $2: $answer" >&2
  exit 1
}

# A queue keeps a message 7 days at most; 360 s are six time-outs.
for queue in repush-requests repush-alerts repush-dead-letters repush-buried; do
  make mns-open CreateQueue --region "$REGION" --QueueName "$queue" --MessageRetentionPeriod 604800 --VisibilityTimeout 360
done
make eventbridge CreateEventBus --region "$REGION" --EventBusName repush-results

for function in function plan; do
  role=repush-$function
  make ram CreateRole --RoleName "$role" --AssumeRolePolicyDocument "$(policy function-trust.json)"
  make ram CreatePolicy --PolicyName "$role" --PolicyDocument "$(policy $function.json)"
  make ram AttachPolicyToRole --PolicyType Custom --PolicyName "$role" --RoleName "$role"
  if [ -n "${REDIS_VPC:-}" ]; then
    make ram AttachPolicyToRole --PolicyType System --PolicyName AliyunECSNetworkInterfaceManagementAccess --RoleName "$role"
  fi
done
make ram CreatePolicy --PolicyName repush-operator --PolicyDocument "$(policy operator.json)"

# It repeats every 5 minutes, the least, while there are new dead letters; plan
# joins the repeats. CloudMonitor needs its role AliyunCloudMonitorDefaultRole.
if [ -n "${CONTACT_GROUP:-}" ]; then
  make cms PutResourceMetricRule --RuleId repush-dead-letters --RuleName repush-dead-letters --Namespace acs_rocketmq \
    --MetricName SendDLQMessageCountPerGid --Period 60 --SilenceTime 300 --ContactGroups "$CONTACT_GROUP" \
    --Resources "[{\"userId\":\"$ACCOUNT\",\"instanceId\":\"$INSTANCE\",\"groupId\":\"$GROUP\"}]" \
    --Escalations.Critical.Statistics Sum --Escalations.Critical.ComparisonOperator GreaterThanOrEqualToThreshold \
    --Escalations.Critical.Threshold 1 --Escalations.Critical.Times 1
  make cms PutMetricRuleTargets --RuleId repush-dead-letters --Targets.1.Id alerts --Targets.1.Level '["CRITICAL"]' \
    --Targets.1.Arn "acs:mns:$REGION:$ACCOUNT:/queues/repush-alerts/message"
fi
