"""Runs a command beside a server that speaks the protocol of S3, on a free port of this machine and in memory only.

Usage: s3_server.py COMMAND...   The tests find the server by STRANDLINE_TEST_S3. Needs moto[s3,server].
"""

import logging
import os
import subprocess
import sys
import threading

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "strandline"


def main(command):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # One thread: requests take effect one after the other, as a store with atomic creates promises.
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    # No secrets: the server takes any.
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    os.environ.update(keys)
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=BUCKET)
    uri = f"s3://{BUCKET}/{{}}?endpoint={endpoint}&region=us-east-1"
    try:
        return subprocess.run(command, env={**os.environ, "STRANDLINE_TEST_S3": uri}).returncode
    finally:
        server.shutdown()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
