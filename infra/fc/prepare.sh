#!/bin/sh
# Makes what s.yaml expects beside the function: three queues, the bus of the
# results, the function's role and the operator's policy. Run it once, with the
# five names exported; what exists already is left as it is. With REDIS_VPC
# exported as well, the function may join a network.
set -eu
for name in "${REGION:?}" "${ACCOUNT:?}" "${INSTANCE:?}" "${GROUP:?}" "${TOPIC:?}"; do
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

# A queue keeps a message 7 days at most; 360 s are six of the function's time-outs.
for queue in repush-requests repush-dead-letters repush-buried; do
  make mns-open CreateQueue --region "$REGION" --QueueName "$queue" --MessageRetentionPeriod 604800 --VisibilityTimeout 360
done
make eventbridge CreateEventBus --region "$REGION" --EventBusName repush-results

make ram CreateRole --RoleName repush-function --AssumeRolePolicyDocument "$(policy function-trust.json)"
make ram CreatePolicy --PolicyName repush-function --PolicyDocument "$(policy function.json)"
make ram AttachPolicyToRole --PolicyType Custom --PolicyName repush-function --RoleName repush-function
if [ -n "${REDIS_VPC:-}" ]; then
  make ram AttachPolicyToRole --PolicyType System --PolicyName AliyunECSNetworkInterfaceManagementAccess --RoleName repush-function
fi
make ram CreatePolicy --PolicyName repush-operator --PolicyDocument "$(policy operator.json)"
