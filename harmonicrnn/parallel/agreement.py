"""Checks that all ranks of a run have the same code, config and data."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import torch.distributed as dist

from harmonicrnn.errors import UserError

Facts = Mapping[str, Mapping[str, str]]
"""Values by kind (such as config) and name."""
SHOWN = 3  # names shown per kind
DIGEST = 64  # characters; values of this length or more are compared but not shown
FAREWELL = timedelta(seconds=10)


def check_agreement(facts: Facts) -> None:
    """Raises on all ranks if ranks differ. All ranks of the default process group must call it.

    Each rank compares its facts with rank 0's through the store, and posts its differences there.

    Args:
        facts: of this rank; values of 64 characters and more, such as digests, are compared but not shown.

    Raises:
        UserError: names the ranks that differ from rank 0, and the differences.
    """
    store, rank, ranks = dist.distributed_c10d._get_default_store(), dist.get_rank(), dist.get_world_size()
    key = f"harmonicrnn/agreement/{store.add(f'harmonicrnn/agreements/{rank}', 1)}"  # there are several checks in a run
    if rank == 0:
        store.set(key, json.dumps(facts))
    store.set(f"{key}/{rank}", difference(facts, json.loads(store.get(key))))
    differing: dict[str, list[int]] = {}
    for other in range(ranks):
        if found := store.get(f"{key}/{other}").decode():
            differing.setdefault(found, []).append(other)
    if not differing:
        return
    store.set(f"{key}/{rank}/read", "")
    if rank == 0:  # which holds the store
        with suppress(dist.DistError):
            store.wait([f"{key}/{other}/read" for other in range(ranks)], FAREWELL)
    told = (
        f"{'ranks' if len(which) > 1 else 'rank'} {', '.join(map(str, which))} differ{'' if len(which) > 1 else 's'} from rank 0 in {what}"
        for what, which in differing.items()
    )
    raise UserError(f"{'; '.join(told)}: start all ranks with the same code, config and data")


def difference(mine: Facts, first: Facts) -> str:
    """Returns the differences from the first rank's facts in a line; empty if there are none."""
    kinds = []
    for kind in dict.fromkeys([*first, *mine]):
        here, there = mine.get(kind, {}), first.get(kind, {})
        names = [name for name in dict.fromkeys([*there, *here]) if here.get(name) != there.get(name)]
        shown = [_difference(name, here.get(name), there.get(name)) for name in names[:SHOWN]]
        if names:
            kinds.append(f"{kind} ({', '.join(shown)}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''})")
    return " and ".join(kinds)


def _difference(name: str, here: str | None, there: str | None) -> str:
    if here is None or there is None:
        return f"{name}: {'not there' if here is None else 'not there on rank 0'}"
    return name if max(len(here), len(there)) >= DIGEST else f"{name}: {here}, not {there}"
