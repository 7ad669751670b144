"""An upstream that says everything again (`load.py serve`), and clients that compare it, one after the other, until stdin ends."""
import socket
import sys
import threading
import time

MESSAGE = b"x" * 1000


def echo(stream):
    try:
        while chunk := stream.recv(65536):
            stream.sendall(chunk)
        stream.close()
    except OSError:
        pass


def serve():
    listener = socket.create_server(("127.0.0.1", 7000), backlog=1024)
    print("ready", flush=True)
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()


def ask():
    with socket.create_connection(("127.0.0.1", 5432), 10) as stream:
        stream.sendall(MESSAGE)
        stream.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    if answer != MESSAGE:
        raise OSError(f"{len(answer)} bytes came back")


def load():
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    served, failed = 0, []
    while not over.is_set() or served + len(failed) == 0:
        try:
            ask()
            served += 1
        except OSError as error:
            failed.append(str(error))
        time.sleep(0.001)
    print(f"served={served} failed={len(failed)} {failed[:1]}")


serve() if sys.argv[1:] == ["serve"] else load()
