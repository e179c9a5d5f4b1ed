# The worker's image. It is built on any host without emulation: the build stage runs on the host's own
# platform and downloads wheels for the target, the final stage only copies. deploy.sh sets BASE_IMAGE.
ARG BASE_IMAGE=python:3.13-slim
FROM --platform=$BUILDPLATFORM $BASE_IMAGE AS build
ARG TARGETARCH
COPY requirements.txt /
RUN set -eu; \
    case "$TARGETARCH" in \
      arm64) machine=aarch64 ;; \
      amd64) machine=x86_64 ;; \
      *) echo "no wheels for TARGETARCH=$TARGETARCH: use arm64 or amd64" >&2; exit 1 ;; \
    esac; \
    pip install --no-cache-dir --no-compile --target /app --requirement /requirements.txt \
      --platform "manylinux2014_$machine" --implementation cp --python-version 3.13 --only-binary=:all:
# Most of botocore's size is the description of services that the worker never calls.
# Bytecode is made here, because a container with a read-only root would compile every module at every start.
RUN find /app/botocore/data /app/boto3/data -mindepth 1 -maxdepth 1 -type d \
      ! -name s3 ! -name sqs ! -name sts ! -name events -exec rm -r {} +; \
    rm -rf /app/bin /app/boto3/examples; \
    python -m compileall -q --invalidation-mode unchecked-hash /app
COPY worker.py /own/
COPY mirror /own/mirror
RUN python -m compileall -q --invalidation-mode unchecked-hash -s /own -p /app /own/mirror && chmod -R a=rX /own

FROM $BASE_IMAGE
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /app /app
# A layer of its own, as it changes more often.
COPY --from=build /own /app
# A number, so that it needs no entry in /etc/passwd.
USER 10001:10001
ENTRYPOINT ["python", "/app/worker.py"]
