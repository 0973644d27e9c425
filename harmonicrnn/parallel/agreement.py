"""What the ranks of a run must have in common, compared before they work together."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

import torch.distributed as dist

from harmonicrnn.errors import UserError

Facts = Mapping[str, Mapping[str, str]]
"""Values by kind (config, say) and name."""
SHOWN = 3  # names of a kind
DIGEST = 64  # characters; what is as long is compared, and not shown
FAREWELL = timedelta(seconds=10)


def check_agreement(facts: Facts) -> None:
    """Refuse to go on where ranks differ. All ranks of the default process group call it together, and all are told the same.

    Each reads what rank 0 left in the store where they met, and leaves there in what it differs itself.

    Args:
        facts: of this rank; values of 64 characters and more, such as digests, are compared and not shown.

    Raises:
        UserError: names the ranks that differ from rank 0, and in what.
    """
    store, rank, ranks = dist.distributed_c10d._get_default_store(), dist.get_rank(), dist.get_world_size()
    key = f"harmonicrnn/agreement/{store.add(f'harmonicrnn/agreements/{rank}', 1)}"  # it is checked more than once in a run
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
    """In what `mine` differs from the first rank's, in a line; nothing where they are equal."""
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
