"""A long wire between two TUN devices: each packet takes as long as it is told, and some never arrive.

    wire.py NEAR FAR DELAY_MS LOSS_PERCENT SEED

It makes the two devices and says "ready"; whoever started it moves them into their namespaces. It ends with its stdin and
then says how many packets it carried and how many it lost. Each direction draws from a generator of its own.
"""

import collections
import fcntl
import os
import random
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001


def device(name):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    return tun


class Direction:
    def __init__(self, source, target, seed):
        self.source, self.target = source, target
        self.random = random.Random(seed)
        self.queue = collections.deque()
        self.carried = self.lost = 0

    def take(self, due, loss):
        """Takes what has come, a few packets at most, so that the other direction has its turn."""
        for _ in range(64):
            try:
                packet = os.read(self.source, 65536)
            except (BlockingIOError, OSError):
                return
            if self.random.random() < loss:
                self.lost += 1
            else:
                self.queue.append((due, packet))

    def give(self, now):
        while self.queue and self.queue[0][0] <= now:
            try:
                os.write(self.target, self.queue.popleft()[1])
                self.carried += 1
            except OSError:
                self.lost += 1


def main():
    near, far, delay, loss, seed = sys.argv[1:]
    delay, loss, seed = float(delay) / 1000, float(loss) / 100, int(seed)
    near, far = device(near), device(far)
    directions = [Direction(near, far, 2 * seed), Direction(far, near, 2 * seed + 1)]
    print("ready", flush=True)
    poll = select.poll()
    for descriptor in (near, far, sys.stdin.fileno()):
        poll.register(descriptor, select.POLLIN)
    while True:
        dues = [it.queue[0][0] for it in directions if it.queue]
        wait = max(0, (min(dues) - time.monotonic()) * 1000) if dues else 1000
        if any(descriptor == sys.stdin.fileno() for descriptor, _ in poll.poll(wait)):
            break
        now = time.monotonic()
        for it in directions:
            it.take(now + delay, loss)
            it.give(now)
    carried, lost = (sum(getattr(it, name) for it in directions) for name in ("carried", "lost"))
    print(f"{carried} packets carried, {lost} lost", flush=True)


main()
