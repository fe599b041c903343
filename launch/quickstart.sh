#!/usr/bin/env bash
# A made-up MicroLens, packed, trained end to end and reported: bash launch/quickstart.sh
# A second call goes on where the first was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/install.sh

mlrec-shards synthetic runs/quickstart/raw --users 4000 --items 300 --seed 0
mlrec-shards make runs/quickstart/raw runs/quickstart/data --size 32
# Training ends with the best checkpoint's full ranking on the test split.
"${launcher[@]}" configs/experiment/quickstart_video.yaml
"${launcher[@]}" configs/experiment/quickstart_id.yaml
mlrec report runs/quickstart_video runs/quickstart_id --out runs/quickstart/report.html
