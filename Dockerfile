# picoquant on a CPU, with Paddle Lite's opt. Not built yet: there was no Docker engine where this was written. Tried was only
# that an empty Debian of this name has the libraries below.
#
#     docker build -t picoquant .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" picoquant run --config quickstart.yaml --save-dir output/

# 3.10: the last Python for which Paddle Lite's opt has wheels, so that one is enough.
FROM python:3.10-slim-bookworm

# OpenCV's and Paddle's shared libraries.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libgomp1 \
 && rm -rf /var/lib/apt/lists/*

# Any user may run it: opt lies in /opt, caches in /tmp.
ENV XDG_DATA_HOME=/opt/share XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib HOME=/tmp

COPY . /src
RUN pip install --no-cache-dir /src \
 && rm -rf /src \
 && picoquant toolchain install \
 && picoquant doctor

WORKDIR /work
ENTRYPOINT ["picoquant"]
CMD ["--help"]
