#!/usr/bin/env bash
# Make a synthetic MicroLens, pack it, train on it end to end, and report the results:
#   bash launch/quickstart.sh
# A second call resumes where the first was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

mlrec-shards synthetic runs/quickstart/raw --users 4000 --items 300 --seed 0
mlrec-shards make runs/quickstart/raw runs/quickstart/data --size 32
# Training ends with a full ranking of the test split by the best checkpoint.
"${launcher[@]}" configs/experiment/quickstart_video.yaml
"${launcher[@]}" configs/experiment/quickstart_id.yaml
mlrec report runs/quickstart_video runs/quickstart_id --out runs/quickstart/report.html
