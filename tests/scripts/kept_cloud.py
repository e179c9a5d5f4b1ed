"""The local cloud, whose state can be kept under a name and brought back: a deployment is then made once.

python kept_cloud.py        takes the settings of local/cloud.py

POST /_tests/keep?name=NAME     keeps the state of all services as it is now
POST /_tests/return?name=NAME   brings it back; 404 if nothing has that name
"""

import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))

from ministack import app
from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict

import cloud
from gaps import sqs
from gaps.replace import replaces

kept: dict[str, bytes] = {}


def tables():
    """Yield (name, table) of each table that a service has: all its state is in them."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ministack."):
            for variable, value in list(vars(module).items()):
                if isinstance(value, AccountScopedDict | AccountRegionScopedDict):
                    yield f"{name}.{variable}", value


def keep(name):
    """Tables that several services share stay one, as all of them are pickled at once."""
    kept[name] = pickle.dumps(({table: found._data for table, found in tables()}, sqs.moves))


def bring_back(name):
    """Fill the tables in place, as other modules hold references to them."""
    found, moves = pickle.loads(kept[name])
    app._reset_all_state()
    for table, target in tables():
        target._data.clear()
        target._data.update(found.get(table, {}))
    sqs.moves[:] = moves


@replaces(app, "_handle_admin_reset")
async def handle_tests(reset, path, method, query):
    """Answer the calls of this file beside ministack's own reset."""
    if method != "POST" or not path.startswith("/_tests/"):
        return await reset(path, method, query)
    name = query["name"][0]
    if path == "/_tests/keep":
        keep(name)
    elif name in kept:
        bring_back(name)
    else:
        return 404, {}, b""
    return 200, {}, b""


if __name__ == "__main__":
    cloud.main()
