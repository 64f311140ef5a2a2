#!/usr/bin/env bash
# What the benchmark over Kafka compares with, under .services/peers: Quix Streams from PyPI, Kafka Streams by Maven.
# scripts/services.sh install comes first: Java and Maven are its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=$PWD/.services/peers
mkdir -p "$peers"
python3 -m venv "$peers/quix"
"$peers/quix/bin/python" -m pip install --quiet --disable-pip-version-check quixstreams==3.28.1
mvn -q -B -f benchmarks/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$peers/streams/lib" \
  -DincludeScope=runtime
jars=$(printf '%s:' "$peers"/streams/lib/*.jar)
java -jar "$peers"/streams/lib/ecj-*.jar -17 -nowarn -cp "$jars" -d "$peers/streams" benchmarks/kafka/ZScore.java
