"""forward.py HOST PORT TO_HOST TO_PORT: a published port."""

import asyncio
import sys


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def main(host, port, to_host, to_port):
    async def accepted(reader, writer):
        try:
            to_reader, to_writer = await asyncio.open_connection(to_host, int(to_port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))
        to_writer.close()
        writer.close()

    async with await asyncio.start_server(accepted, host, int(port)) as server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
