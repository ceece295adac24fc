"""A SPIFFE Workload API served by gRPC's C core and the `spiffe` package's own stubs, which know
nothing of Renkei. Arguments: the socket, a JSON file.

The file holds one complete message as the test wants it, bytes in base64; when it changes, every
open stream gets the new message. Without SVIDs the caller is told that it has no identity, and a
caller without the security header is refused, as SPIRE's agent does both.
"""

import base64
import json
import os
import sys
import threading
import time
from concurrent import futures

import grpc
from spiffe._proto import workload_pb2 as pb
from spiffe._proto import workload_pb2_grpc as wire

socket, file = sys.argv[1:]


def message():
    with open(file, encoding="utf-8") as text:
        told = json.load(text)
    svids = [
        pb.X509SVID(
            spiffe_id=svid["id"],
            x509_svid=base64.b64decode(svid["chain"]),
            x509_svid_key=base64.b64decode(svid["key"]),
            bundle=base64.b64decode(svid["bundle"]),
            hint=svid["hint"],
        )
        for svid in told["svids"]
    ]
    federated = {name: base64.b64decode(der) for name, der in told["federated"].items()}
    return pb.X509SVIDResponse(svids=svids, federated_bundles=federated)


class Agent(wire.SpiffeWorkloadAPIServicer):
    def FetchX509SVID(self, request, context):
        headers = [value for key, value in context.invocation_metadata() if key == "workload.spiffe.io"]
        if headers != ["true"]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        sent = None
        while context.is_active():
            seen = os.stat(file).st_mtime_ns
            if seen != sent:
                sent, now = seen, message()
                if not now.svids:
                    context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
                yield now
            time.sleep(0.05)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
wire.add_SpiffeWorkloadAPIServicer_to_server(Agent(), server)
server.add_insecure_port(f"unix:{socket}")
server.start()
print("serving", flush=True)
threading.Event().wait()
