#!/bin/sh
# Rights on Kafka, no more than each needs. Run it once as an administrator, with Kafka's own tool on the PATH:
#   BOOTSTRAP=kafka.example:9093 CONFIG=admin.properties deploy/kafka/acls.sh
# Principals: User:ebbtide runs the workers and makes topics, User:storefront writes what happens, User:reader is a job
# of yours that reads facts. PREFIX is EBBTIDE_TOPIC_PREFIX.
set -eu
: "${BOOTSTRAP:?where Kafka is}" "${CONFIG:?a file with the administrator's login}"
PREFIX="${PREFIX:-}"

allow() {
  kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$CONFIG" --add --force "$@"
}

INPUTS="visits favorites carts orders feedback identities shops"
INTERNAL="ticks handovers models segment-rules erasures hook-requests customers-state shop-minutes shops-state hooks-state"
FACTS="sessions late-events ingest dead-letters customers transitions actions purchases item-days leaks reasons segments
segment-runs erased loss-windows alerts deliveries"

for topic in $INPUTS; do
  allow --allow-principal User:storefront --operation Write --operation Describe --topic "$PREFIX$topic"
done
for topic in $INPUTS $INTERNAL $FACTS; do
  allow --allow-principal User:ebbtide --operation Read --operation Write --operation Describe \
    --operation Create --operation DescribeConfigs --topic "$PREFIX$topic"
done
for topic in $FACTS; do
  allow --allow-principal User:reader --operation Read --operation Describe --topic "$PREFIX$topic"
done
for role in customers sink shops hooks; do
  allow --allow-principal User:ebbtide --operation Read --operation Describe --group "${PREFIX}ebbtide-$role"
done
