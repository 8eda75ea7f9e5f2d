"""Celery with a worker: tasks, groups, chords, retries, remote control. Silent on success. Arguments: HOST PORT FOLDER PREFIX."""

import sys

from celery import Celery, chain, chord, group
from checks import DEADLINE, Worker, arguments, check, expect

HOST, PORT, (PREFIX, *ROLE) = arguments()
URL = f"redis://{HOST}:{PORT}/0"
app = Celery("checks", broker=URL, backend=URL)
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True
if PREFIX:
    # A hash tag: all keys are in one slot.
    app.conf.broker_transport_options = {"global_keyprefix": PREFIX}
    app.conf.result_backend_transport_options = {"global_keyprefix": PREFIX}


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="unsteady", bind=True, max_retries=3)
def unsteady(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(name="broken")
def broken():
    raise ValueError("as it should")


def result_of(result):
    return result.get(timeout=DEADLINE)


def check_tasks():
    expect(result_of(add.delay(1, 2)), 3, "a task")
    expect([result_of(result) for result in [add.delay(i, i) for i in range(50)]], [2 * i for i in range(50)], "50 tasks")
    expect(result_of(group(add.s(i, 1) for i in range(10))()), list(range(1, 11)), "a group")
    expect(result_of(chain(add.s(1, 2), add.s(10))()), 13, "a chain")
    expect(result_of(chord((add.s(i, i) for i in range(5)), total.s())()), 20, "a chord")
    expect(result_of(unsteady.delay()), 2, "a task that is tried again")
    expect(result_of(add.apply_async((2, 2), countdown=1)), 4, "a task for later")
    expect(result_of(add.apply_async((3, 3), priority=6)), 6, "a task with a priority")
    try:
        result_of(broken.delay())
    except ValueError as error:
        expect(str(error), "as it should", "the error of a task")
    else:
        raise SystemExit("a broken task did not fail")


def main():
    worker = Worker("worker")
    try:
        check_tasks()
        replies = app.control.ping(timeout=5, limit=1)
        check(replies and list(replies[0].values()) == [{"ok": "pong"}], f"remote control: {replies}")
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
