"""RQ with a worker: jobs, dependencies, failures, remote control. Silent on success. Arguments: HOST PORT FOLDER PREFIX."""

import os
import sys

from checks import Worker, arguments, expect, wait_until

HOST, PORT, (PREFIX, *ROLE) = arguments()
if PREFIX:
    # A hash tag: all keys are in one slot. RQ reads it when it is imported.
    os.environ["RQ_KEY_PREFIX"] = PREFIX

import redis  # noqa: E402
import rq  # noqa: E402
import rq.command  # noqa: E402

CONNECTION = redis.Redis(host=HOST, port=PORT)


def add(a, b):
    return a + b


def broken():
    raise ValueError("as it should")


def finished(job, what):
    wait_until(lambda: job.get_status(refresh=True) in (rq.job.JobStatus.FINISHED, rq.job.JobStatus.FAILED), what)
    return job


def check_jobs(queue):
    expect(finished(queue.enqueue("rq_check.add", 1, 2), "a job").return_value(), 3, "a job")
    jobs = [queue.enqueue("rq_check.add", i, i) for i in range(20)]
    expect([finished(job, "20 jobs").return_value() for job in jobs], [2 * i for i in range(20)], "20 jobs")
    first = queue.enqueue("rq_check.add", 1, 1)
    second = queue.enqueue("rq_check.add", 2, 2, depends_on=first)
    expect(finished(second, "a job that waits for another").return_value(), 4, "a job that waits for another")
    failed = finished(queue.enqueue("rq_check.broken"), "a job that fails")
    expect(failed.get_status(), rq.job.JobStatus.FAILED, "a job that fails")
    expect(failed.id in queue.failed_job_registry, True, "the registry of failures")


def main():
    worker = Worker("worker")
    try:
        check_jobs(rq.Queue("checks", connection=CONNECTION))
        [found] = rq.Worker.all(connection=CONNECTION)
        rq.command.send_shutdown_command(CONNECTION, found.name)
        worker.join()
    except BaseException:
        print(worker.said(), file=sys.stderr)
        raise


def work():
    queues = [rq.Queue(name, connection=CONNECTION) for name in ("urgent", "checks")]
    rq.SimpleWorker(queues, connection=CONNECTION).work(logging_level="WARNING")


if __name__ == "__main__":
    work() if ROLE else main()
