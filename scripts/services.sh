#!/usr/bin/env bash
# The servers that tests marked `services` run against, and a Kafka to try things with (Debian, Ubuntu; root or sudo).
#
#   scripts/services.sh install                 what is missing: programs by apt-get, Kafka's jars by Maven
#   scripts/services.sh up kafka [--nodes 3]    brokers on loopback: 127.0.0.1:9092 (9093, 9094)
#   scripts/services.sh start kafka --node 2    one broker of these again
#   scripts/services.sh down                    end them, and delete what they kept
#
# KAFKA_PORT and KAFKA_DIR say where else. Tests start brokers of their own by these.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(prometheus chromium)
programs=(prometheus promtool chromium)
jars=$PWD/.services/kafka
folder=${KAFKA_DIR:-$PWD/.services/run}
port=${KAFKA_PORT:-9092}

missing() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || return 0
  done
  return 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Run something whose output is of interest only where it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

apt() {
  command -v apt-get >/dev/null || { echo "no apt-get here: install $* by hand" >&2; return 1; }
  quietly as_root apt-get update -qq
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

install() {
  if missing "${programs[@]}"; then
    apt "${packages[@]}"
    ! missing "${programs[@]}" || { echo "installed, but not on PATH: ${programs[*]}" >&2; return 1; }
  fi
  install_kafka
}

install_kafka() {
  cmp -s scripts/kafka/pom.xml "$jars/pom.xml" && return 0
  if missing java; then apt openjdk-17-jre-headless; fi
  if missing mvn; then apt maven; fi
  rm -rf "$jars"
  mkdir -p "$jars"
  quietly mvn -q -B -f scripts/kafka/pom.xml dependency:copy-dependencies \
    -DoutputDirectory="$jars/lib" -DincludeScope=runtime
  cp scripts/kafka/pom.xml "$jars/pom.xml"
}

# Settings of node $1 of $2. Timeouts are short, so that tests need not wait long; do not take them for production.
properties() {
  local node=$1 nodes=$2 voters="" copies=$(($2 < 3 ? $2 : 3)) i own=$((port + $1 - 1))
  # With KAFKA_PROXY a second way in, said to be 20 ports on: there a test puts a proxy that it can cut.
  local proxied="" proxy="" through=""
  if [ -n "${KAFKA_PROXY:-}" ]; then
    proxied=,PROXIED://127.0.0.1:$((port + 40 + node)) proxy=,PROXIED://127.0.0.1:$((port + 60 + node))
    through=,PROXIED:PLAINTEXT
  fi
  for ((i = 1; i <= nodes; i++)); do voters+="${voters:+,}$i@127.0.0.1:$((port + 10 + i))"; done
  cat <<END
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$own,CONTROLLER://127.0.0.1:$((port + 10 + node))$proxied
advertised.listeners=PLAINTEXT://127.0.0.1:$own$proxy
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$through
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$folder/node-$node/data
num.partitions=6
default.replication.factor=$copies
min.insync.replicas=$((copies > 1 ? 2 : 1))
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$((copies > 1 ? 2 : 1))
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.threads=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
group.min.session.timeout.ms=500
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=${KAFKA_SESSION_MS:-5000}
group.consumer.min.heartbeat.interval.ms=300
group.consumer.heartbeat.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
END
}

up_kafka() {
  local nodes=1 cluster i
  [ "${1:-}" = "--nodes" ] && nodes=$2
  install_kafka
  if [ -e "$folder/kafka" ]; then
    echo "brokers were started already: scripts/services.sh down ends them" >&2
    return 1
  fi
  mkdir -p "$folder"
  echo "$nodes" >"$folder/kafka"
  cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'Kf' | head -c 22)
  for ((i = 1; i <= nodes; i++)); do
    mkdir -p "$folder/node-$i"
    properties "$i" "$nodes" >"$folder/node-$i/server.properties"
    quietly java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$jars/lib/*" kafka.tools.StorageTool format -t "$cluster" \
      -c "$folder/node-$i/server.properties"
    start_node "$i"
  done
  for ((i = 1; i <= nodes; i++)); do wait_for "$i"; done
  echo "Kafka is at 127.0.0.1:$port ($nodes broker(s)); scripts/services.sh down ends it"
}

start_node() {
  # A group of its own: ctrl-c at a test does not reach it.
  setsid nohup java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/lib/*" kafka.Kafka \
    "$folder/node-$1/server.properties" >>"$folder/node-$1/log" 2>&1 </dev/null &
  echo $! >"$folder/node-$1/pid"
}

wait_for() {
  local i
  for ((i = 0; i < 600; i++)); do
    (: <"/dev/tcp/127.0.0.1/$((port + $1 - 1))") 2>/dev/null && return 0
    kill -0 "$(cat "$folder/node-$1/pid")" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$folder/node-$1/log" >&2
  echo "broker $1 does not start" >&2
  return 1
}

down() {
  local pid file
  for file in "$folder"/node-*/pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    kill -9 "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  done
  rm -rf "$folder"
}

case "${1:-} ${2:-}" in
  "install ") install ;;
  "up kafka") shift 2; up_kafka "$@" ;;
  "start kafka") start_node "$4"; wait_for "$4" ;;
  "down ") down ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
