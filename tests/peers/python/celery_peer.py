"""Celery over RabbitMQ, with prefork workers. Elements travel by `chunks`, which is how Celery sends many small ones."""

import subprocess
import sys

from celery import group

import peer
from celery_tasks import app, same, total, total_of_same

CHUNK = 1000


def mapped(count):
    outputs = same.chunks(((index,) for index in range(count)), CHUNK)().get()
    return sum(peer.weighted(index, output) for index, output in enumerate(output for chunk in outputs for output in chunk))


def mapped_by_one(count):
    outputs = group(same.s(index) for index in range(count))().get()
    return sum(peer.weighted(index, output) for index, output in enumerate(outputs))


def folded(task):
    def fold(count):
        parts = (task.s(list(range(first, min(first + CHUNK, count)))) for first in range(0, count, CHUNK))
        return sum(group(parts)().get())

    return fold


def main():
    slots, log = sys.argv[1:]
    command = ["-A", "celery_tasks", "worker", "--pool", "prefork", "--concurrency", slots, "--queues", "bench-celery"]
    with open(log, "w") as output:
        worker = subprocess.Popen([sys.executable, "-m", "celery", *command], stdout=output, stderr=output)
        try:
            same.delay(0).get(timeout=60)
            jobs = {"map": mapped, "map-by-one": mapped_by_one, "fold": folded(total), "map-fold": folded(total_of_same)}
            peer.serve(jobs, lambda index: same.delay(index).get())
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    main()
