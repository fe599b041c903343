"""The program mlrec-shards: pack raw MicroLens folders into WebDataset shards, and look after them.

cli.py, commands/  the program, and one small module per command
raw/               read raw folders; how to add a layout of interactions
pack/              items and sequences as tar shards
make.py, dry_run.py   pack a raw folder, or estimate the result
download/          download MicroLens
push.py            copy a data set
check/, repair/    find and replace damaged files
show/, bench/      describe a data set; measure packing
synthetic/         synthetic raw folders whose best recommendations are known
templates/         the page of a data set
"""
