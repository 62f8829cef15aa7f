"""A buf plugin that writes grpcio stubs.

No wheel ships `grpc_python_plugin` as a program; grpcio-tools has it built into its protoc. This plugin
turns buf's request into a descriptor set and lets that protoc write the `_pb2_grpc.py` files.
"""

import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """Write `_pb2_grpc.py` for each file of the request that declares a service.

    Raises:
        SystemExit: protoc refused the descriptors.
    """
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    wanted = set(request.file_to_generate)
    names = [file.name for file in request.proto_file if file.name in wanted and file.service]
    if not names:  # buf calls a plugin once a directory, and most have no service
        return response
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        arguments = [
            "",
            f"--descriptor_set_in={descriptors}",
            f"--grpc_python_out={folder}",
            *names,
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc refused the descriptors")
        for path in sorted(Path(folder).rglob("*_pb2_grpc.py")):
            response.file.add(name=str(path.relative_to(folder)), content=path.read_text())
    return response


if __name__ == "__main__":
    incoming = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(incoming).SerializeToString())
