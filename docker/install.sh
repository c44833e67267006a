#!/bin/sh
# install.sh LOCK [cuda|cpu [WHERE]]: a lock's packages into an image, by hash, with bytecode. cpu: torch and torchvision of the locked versions
# from WHERE (in uv's words), all else by hash. uv itself and what no container needs stay out of the layer that runs this.
set -eu
lock=$1 torch=${2:-cuda} where=${3:-}
case $torch in cuda | cpu) ;; *) echo "TORCH=$torch is neither cuda nor cpu" >&2; exit 2 ;; esac
python -m pip install --quiet --target /tmp/uv --require-hashes --requirement uv.lock.txt
install() { /tmp/uv/bin/uv pip install --system --no-cache --compile-bytecode --no-deps "$@"; }
if [ "$torch" = cuda ]; then
    install --require-hashes --requirement "$lock"
else
    sh without_cuda.sh "$lock"
    install --require-hashes --requirement rest.lock
    # shellcheck disable=SC2086 -- WHERE is several words
    install $where --requirement torch.txt
fi
cd "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
# test suites inside packages, Ray's Java workers, and libraries to link programs with: a tenth of the image without CUDA
for package in matplotlib mpl_toolkits networkx numpy pandas pyarrow scipy sklearn sympy; do
    [ ! -d $package ] || find $package -type d -name tests -prune -exec rm -rf {} +
done
rm -rf ray/jars torch/test torch/bin/test_* /tmp/uv
find . -name '*.a' -delete
