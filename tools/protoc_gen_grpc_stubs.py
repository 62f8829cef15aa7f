"""A buf plugin that writes the types of the grpcio stubs, and only where there are stubs.

protoc-gen-mypy_grpc writes a `_pb2_grpc.pyi` for every file, also for those without a service: types of
modules that do not exist, which a type checker would then let us import.
"""

import subprocess
import sys

from google.protobuf.compiler import plugin_pb2


def with_services_only(request: plugin_pb2.CodeGeneratorRequest) -> bool:
    """Take the files without services off the request; False when none is left."""
    serving = {file.name for file in request.proto_file if file.service}
    names = [name for name in request.file_to_generate if name in serving]
    request.file_to_generate[:] = names
    return bool(names)


def main() -> int:
    """Pass the request on; the exit code of the plugin behind."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    if not with_services_only(request):
        response = plugin_pb2.CodeGeneratorResponse(
            supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
        )
        sys.stdout.buffer.write(response.SerializeToString())
        return 0
    command = ["protoc-gen-mypy_grpc"]
    run = subprocess.run(
        command, input=request.SerializeToString(), stdout=subprocess.PIPE, check=False
    )
    sys.stdout.buffer.write(run.stdout)
    return run.returncode


if __name__ == "__main__":
    raise SystemExit(main())
