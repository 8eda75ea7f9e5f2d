"""Celery with a worker while another server becomes the primary: no task is lost that the replica knew of. Silent on success.

Arguments: HOST PORT FOLDER. Tells by the key checks:half-way that a failover is to come, and waits for the key checks:switched."""

import sys
import time

import redis
from celery import Celery
from checks import Worker, arguments, expect, wait_until

HOST, PORT, ROLE = arguments()
URL = f"redis://{HOST}:{PORT}/0"
BEFORE, AFTER = 200, 50
# A worker takes a task from its queue, and then notes that it has it: a server that knows the first only has lost the task. That may
# happen to the one that is just taken, as the new primary lacks the last writes of the former one.
MAY_BE_LOST = 1
app = Celery("checks", broker=URL, backend=URL)
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True
# What Celery wants for tasks that have to be done whatever happens: acknowledged when they are done, and given to a worker again if not.
app.conf.task_acks_late = True
app.conf.broker_transport_options = {
    "visibility_timeout": 2,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "unacked_mutex_expire": 2,
}


@app.task(name="square")
def square(number):
    time.sleep(0.015)
    return number * number


def waiting(client):
    return client.llen("celery") + client.hlen("unacked")


def check_tasks(client):
    results = {number: square.delay(number) for number in range(BEFORE)}
    pending = dict(results)

    def left():
        for number in [number for number, result in pending.items() if result.ready()]:
            del pending[number]
        return len(pending)

    wait_until(lambda: left() < BEFORE - BEFORE // 10, "the first tasks")
    client.set("checks:half-way", "1")
    wait_until(lambda: client.exists("checks:switched"), "the failover")
    later = {number: square.delay(number) for number in range(BEFORE, BEFORE + AFTER)}
    results.update(later)
    pending.update(later)
    wait_until(lambda: left() <= MAY_BE_LOST and waiting(client) == 0, "all tasks")
    for number in list(pending):
        results[number] = pending[number] = square.delay(number)
    wait_until(lambda: left() == 0, "the lost task")
    # What was done before the failover may be done again: the server has forgotten that.
    expect({number: result.get() for number, result in results.items()}, {number: number * number for number in results}, "the results")


def main():
    worker = Worker("worker")
    client = redis.Redis(host=HOST, port=PORT)
    try:
        check_tasks(client)
        app.control.shutdown()
        worker.join()
    except BaseException:
        print(worker.said(), file=sys.stderr)
        raise
    app.close()


if ROLE:
    app.worker_main(["worker", "--pool=solo", "--loglevel=WARNING", "--without-mingle"])
else:
    main()
