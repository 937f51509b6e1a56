"""Dask, with worker processes and its bags, which partition by themselves."""

import sys
from operator import add

from dask import bag
from distributed import Client, LocalCluster

import peer


def same(number):
    return number


def numbers(count):
    return bag.from_sequence(range(count))


def mapped(count):
    return sum(peer.weighted(index, output) for index, output in enumerate(numbers(count).map(same).compute()))


def mapped_by_one(client, count):
    outputs = client.gather(client.map(same, range(count), pure=False))
    return sum(peer.weighted(index, output) for index, output in enumerate(outputs))


def main():
    slots, log = sys.argv[1:]
    with LocalCluster(n_workers=int(slots), threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.submit(same, 0, pure=False).result()
            jobs = {
                "map": mapped,
                "map-by-one": lambda count: mapped_by_one(client, count),
                "fold": lambda count: numbers(count).fold(add).compute(),
                "map-fold": lambda count: numbers(count).map(same).fold(add).compute(),
            }
            peer.serve(jobs, lambda index: client.submit(same, index, pure=False).result())


if __name__ == "__main__":
    main()
