"""The AWS CLI without its start-up time: one process per CLI has everything imported and forks for each call.

A deployment makes a hundred calls, and the tests make a hundred deployments. The code that runs is the installed CLI's
own, of either generation, with the caller's arguments, environment, directory and open files.

    INTERPRETER fast_aws.py SOCKET      serves on the Unix socket SOCKET; INTERPRETER is the one in the CLI's first line
"""

import gc
import json
import os
import signal
import socket
import sys
import threading

# The client that takes the place of "aws" in PATH; it imports only what is built in, because it starts often.
CLIENT = """#!/usr/bin/python3 -IS
import _socket, posix, sys
words = [word.encode(sys.getfilesystemencoding(), "surrogateescape") for word in sys.argv]
call = [posix.getcwdb(), b"%%d" %% len(words), *words, *(k + b"=" + v for k, v in posix.environ.items())]
call = b"\\0".join(call)
files = b"".join(file.to_bytes(4, sys.byteorder) for file in (0, 1, 2))
server = _socket.socket(_socket.AF_UNIX)
server.connect(%r)
server.sendmsg([len(call).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
server.sendall(call)
answer = server.recv(1)
sys.exit(answer[0] if answer else 255)
"""
WARM_UP = (
    *("sts", "s3", "sqs", "iam", "logs", "ecr", "ecs", "ec2", "lambda", "events", "service-quotas", "cloudwatch"),
    "sns",
)


def receive_call(connection):
    """(directory, arguments, environment) of a client, whose files become this process's 0, 1 and 2."""
    head, files, _, _ = socket.recv_fds(connection, 4, 3)
    length, call = int.from_bytes(head, "big"), b""
    while len(call) < length:
        call += connection.recv(length - len(call))
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    directory, count, *rest = os.fsdecode(call).split("\0")
    return directory, rest[: int(count)], dict(entry.split("=", 1) for entry in rest[int(count) :])


def end_with_client(connection):
    """End this process when its client is killed: a call of a dead caller must not be tried again."""
    connection.recv(1)
    os._exit(255)


def run_call(connection):
    """Run one call as the CLI would, and answer its exit status."""
    directory, arguments, environment = receive_call(connection)
    os.chdir(directory)
    data_path = os.environ["AWS_DATA_PATH"]  # set by the import of awscli
    os.environ.clear()
    os.environ.update(environment, AWS_DATA_PATH=data_path)
    threading.Thread(target=end_with_client, args=(connection,), daemon=True).start()
    sys.argv = arguments
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    from awscli import clidriver

    try:
        status = clidriver.main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 255
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([(status or 0) & 255]))
    os._exit(0)


def remember(owner, name, key=lambda arguments, named: (arguments[1:], tuple(sorted(named.items())))):
    """Keep the answers of a method over all instances, by its arguments, or of a function by the given key."""
    function, known = getattr(owner, name), {}

    def remembering(*arguments, **named):
        asked = key(arguments, named)
        if asked not in known:
            known[asked] = function(*arguments, **named)
        return known[asked]

    setattr(owner, name, remembering)


def code_of(function):
    """What all methods and closures of one definition have in common."""
    function = getattr(function, "__func__", function)
    return getattr(function, "__code__", function)


def warm_up():
    """Import and load what the calls of deploy.sh need, without a call: its threads would not survive a fork."""
    from awscli import clidriver

    session = clidriver.create_clidriver().session
    loader = session.get_component("data_loader")
    # The module of the loader in use: version 2 has a copy of botocore that can be imported by two names.
    loaders = sys.modules[type(loader).__module__]
    hooks = sys.modules[type(loader).__module__.replace("loaders", "hooks")]
    # The CLI reads its service models, and the names of all folders with models, again in every process, and looks at
    # the signature of each of its 370 handlers.
    remember(loaders.JSONFileLoader, "load_file")
    remember(loaders.Loader, "list_available_services")
    remember(hooks, "accepts_kwargs", lambda arguments, _: code_of(arguments[0]))
    for kind in ("service-2", "paginators-1", "waiters-2", "endpoint-rule-set-1", "completions-1"):
        for service in loader.list_available_services(kind):
            if service in WARM_UP:
                loader.load_service_model(service, kind)
    for service in WARM_UP:
        session.create_client(service, region_name="us-east-1", aws_access_key_id="warm", aws_secret_access_key="up")
    session.get_available_services()
    # It keeps no setting of a caller: a session reads the environment when it is asked for something.
    ready = clidriver.create_clidriver()
    clidriver.create_clidriver = lambda *_: ready


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    warm_up()
    gc.freeze()  # and no collection in a call, which is short
    gc.disable()
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen(64)
    print(json.dumps({"ready": sys.argv[1]}), flush=True)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            run_call(connection)
        connection.close()


if __name__ == "__main__":
    main()
