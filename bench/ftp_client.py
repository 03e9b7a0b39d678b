#!/usr/bin/env python3
"""One FTP client for every server: uploads bytes that are no document and tells how fast that went.

Prints a JSON line for each scenario:
  big    one file on one connection
  small  small files, one after the other, on one connection
  many   small files on several connections at once, each from a process of its own
Every file's bytes differ, as scans do: a server that keeps equal files once must not win by it.
"""
import argparse
import ftplib
import json
import multiprocessing
import os
import socket
import struct
import time

SMALL_BYTES = 50_000
SEND = 256 * 1024


def connect(options):
    ftp = ftplib.FTP(timeout=120)
    ftp.connect(options.host, options.port)
    ftp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ftp.login(options.user, os.environ.get("BENCH_PASSWORD", "bench@localhost"))
    if options.folder:
        ftp.cwd(options.folder)
    ftp.voidcmd("TYPE I")
    return ftp


def put(ftp, name, data):
    connection, _ = ftp.ntransfercmd("STOR " + name)
    view = memoryview(data)
    for start in range(0, len(view), SEND):
        connection.sendall(view[start : start + SEND])
    connection.close()
    ftp.voidresp()


def pages(count, seed):
    """`count` small files that share all but their first 16 bytes."""
    rest = os.urandom(SMALL_BYTES - 16)
    return [struct.pack(">QQ", seed, number) + rest for number in range(count)]


def tell(options, scenario, seconds, files, size):
    line = {"server": options.label, "scenario": scenario, "seconds": round(seconds, 3)}
    line.update(files_per_second=round(files / seconds, 1), megabytes_per_second=round(size / seconds / 1e6, 1))
    print(json.dumps(line), flush=True)


def remove(options, names):
    ftp = connect(options)
    for name in names:
        ftp.delete(name)
    ftp.quit()


def big(options):
    data = os.urandom(1_000_000) * options.big
    ftp = connect(options)
    begin = time.perf_counter()
    put(ftp, "big.bin", data)
    seconds = time.perf_counter() - begin
    assert ftp.size("big.bin") == len(data), "the file did not arrive whole"
    ftp.quit()
    tell(options, "big", seconds, 1, len(data))
    remove(options, ["big.bin"])


def small(options):
    files = pages(options.small, time.time_ns())
    ftp = connect(options)
    begin = time.perf_counter()
    for number, data in enumerate(files):
        put(ftp, f"small-{number:05}.bin", data)
    seconds = time.perf_counter() - begin
    ftp.quit()
    tell(options, "small", seconds, len(files), len(files) * SMALL_BYTES)
    remove(options, [f"small-{number:05}.bin" for number in range(len(files))])


def device(options, number, ready, begin):
    files = pages(options.each, time.time_ns() + number)
    ftp = connect(options)
    ready.release()
    begin.wait()
    for file, data in enumerate(files):
        put(ftp, f"many-{number}-{file:04}.bin", data)
    ftp.quit()


def many(options):
    ready, begin = multiprocessing.Semaphore(0), multiprocessing.Event()
    devices = [multiprocessing.Process(target=device, args=(options, number, ready, begin)) for number in range(options.connections)]
    for process in devices:
        process.start()
    for _ in devices:
        ready.acquire()
    started = time.perf_counter()
    begin.set()
    for process in devices:
        process.join()
    seconds = time.perf_counter() - started
    assert all(process.exitcode == 0 for process in devices), "an upload failed"
    count = options.connections * options.each
    tell(options, "many", seconds, count, count * SMALL_BYTES)
    remove(options, [f"many-{number}-{file:04}.bin" for number in range(options.connections) for file in range(options.each)])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="The password is taken from BENCH_PASSWORD.")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--user", required=True)
    arguments.add_argument("--folder", default="", help="folder to upload into")
    arguments.add_argument("--label", required=True, help="the server's name in the output")
    arguments.add_argument("--big", type=int, default=200, help="megabytes of the big file; 0: leave it out")
    arguments.add_argument("--small", type=int, default=1000, help="files on one connection; 0: leave it out")
    arguments.add_argument("--connections", type=int, default=8, help="connections at once; 0: leave it out")
    arguments.add_argument("--each", type=int, default=100, help="files on each of them")
    options = arguments.parse_args()
    if options.big:
        big(options)
    if options.small:
        small(options)
    if options.connections:
        many(options)


if __name__ == "__main__":
    main()
