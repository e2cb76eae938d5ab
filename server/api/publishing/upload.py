"""A multipart upload, written to disk as it arrives."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from adapters_store.adapter_files import ADAPTER_FILES, SOURCE_FILES
from adapters_store.disk_space import tells_full_disk
from server.api.request_body import limited_stream
from server.errors import InvalidRequest

# Bytes gathered before a thread is asked to write them.
_WRITE_BYTES = 1024 * 1024


class _PartWriter:
    """Writes each part of a multipart body to the file that its header names, if that is an adapter's file."""

    def __init__(self, directory: Path, boundary: bytes) -> None:
        self._directory = directory
        self._file: BinaryIO | None = None
        self._header = b""
        self._value = b""
        self._disposition = b""
        self.names: list[str] = []
        self.ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    @tells_full_disk
    def write(self, data: bytes) -> None:
        """Parse and write more of the body.

        Raises:
            FormParserError: it is no multipart body.
            InvalidRequest: a part is no file of an adapter.
            StoreFull: the disk has no space for it.
        """
        self._parser.write(data)

    @tells_full_disk
    def close(self) -> None:
        """Close the file of a part that was cut off."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        name = _file_name(self._disposition)
        if name in self.names:
            raise InvalidRequest(f"{name} is in the upload twice", param=name)
        self.names.append(name)
        self._file = (self._directory / name).open("xb")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        self.close()

    def _on_end(self) -> None:
        self.ended = True


def _file_name(disposition: bytes) -> str:
    """The adapter's file that a part holds: by its file name, or by its field name where it has none.

    Only the known names are accepted, so that nothing a client sends becomes a path.
    """
    _, options = parse_options_header(disposition)
    sent = options.get(b"filename") or options.get(b"name") or b""
    for name in SOURCE_FILES:
        if sent == name.encode():
            return name
    shown = sent[:64].decode("utf-8", "replace")
    hint = ""
    if shown.endswith((".bin", ".pt", ".pth", ".pkl")):
        hint = "; a pickle can run code when it is loaded: save the adapter as safetensors"
    raise InvalidRequest(
        f"the upload holds a part {shown!r}; an adapter's files are {', '.join(SOURCE_FILES)}{hint}",
        param="files",
    )


@asynccontextmanager
async def received_adapter(request: Request, folder: Path, limit: int) -> AsyncIterator[Path]:
    """Receive an adapter's files into a new directory below `folder`; it is removed on leaving.

    Raises:
        BodyTooLarge: as soon as more than `limit` bytes have come, or are announced.
        RequestTimeout: the client stopped sending.
        StoreFull: the disk has no space for it.
        InvalidRequest: the body is no multipart form, is cut off, or holds anything but an adapter's files.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest(
            f"send the adapter's files ({', '.join(ADAPTER_FILES)}) as multipart/form-data parts named `files`"
        )
    directory = await asyncio.to_thread(_new_directory, folder)
    try:
        try:
            await _receive(request, directory, boundary, limit)
        except FormParserError as error:
            raise InvalidRequest(f"the body is not multipart/form-data: {error}") from None
        yield directory
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


@tells_full_disk
def _new_directory(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder, prefix="upload-"))


async def _receive(request: Request, directory: Path, boundary: bytes, limit: int) -> None:
    writer = _PartWriter(directory, boundary)
    gathered = bytearray()
    try:
        async for chunk in limited_stream(request, limit):
            gathered += chunk
            if len(gathered) >= _WRITE_BYTES:
                await asyncio.to_thread(writer.write, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(writer.write, bytes(gathered))
    finally:
        writer.close()
    if not writer.ended:
        raise InvalidRequest("the upload ends in the middle: send all parts and the closing boundary")
