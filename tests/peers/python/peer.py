"""What a peer in Python is asked, and how it answers: a line of JSON each."""

import json
import sys
import time

MASK = (1 << 64) - 1


def weighted(index, output):
    return (index + 1) * output


def rate(answer, count):
    started = time.perf_counter()
    result = answer(count)
    return {"took": time.perf_counter() - started, "answer": result & MASK, "latencies": []}


def latency(call, count):
    latencies, answer = [], 0
    for index in range(count):
        started = time.perf_counter()
        output = call(index)
        latencies.append(time.perf_counter() - started)
        answer += weighted(index, output)
    return {"took": sum(latencies), "answer": answer & MASK, "latencies": latencies}


def serve(jobs, call):
    """Answers until standard input is closed. `jobs` maps a job's name to a function of the number of elements."""
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["measure"] == "latency":
            answer = latency(call, asked["count"])
        else:
            answer = rate(jobs[asked["job"]], asked["count"])
        print(json.dumps(answer), flush=True)
