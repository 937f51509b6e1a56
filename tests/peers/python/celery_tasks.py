"""The operations, as Celery's tasks."""

import os

from celery import Celery

app = Celery("peers", broker=os.environ["BENCH_AMQP_URI"], backend="rpc://")
app.conf.task_default_queue = "bench-celery"


@app.task
def same(number):
    return number


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def total_of_same(numbers):
    return sum(same(number) for number in numbers)
