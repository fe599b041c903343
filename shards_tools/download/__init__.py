"""Download the published files of MicroLens into a raw folder.

published.py   the data sets, their parts, and which published files are of which part
http.py        requests, and which of their errors are worth another try
listing.py     the files on the server, from its index pages or by their known names
choice.py      which of them to download
plan.py        what to download, how large it is, and what is complete already
fetch.py       download one file, resumed from what an earlier attempt left
verify.py      published checksums, zip archives and the parts of split ones
manifest.py    download.json: size and SHA-256 of each file
download.py    download a plan with several connections
"""
