# Compressors: the bytes they write, at their levels, and that everything comes back.
back() { cmp - "$1" && echo back; }
for f in part text odd; do
  for l in 1 6 9; do
    echo "== $f $l"
    gzip -n -$l -c $f >z && sha256sum <z && gzip -t z 2>&1; gzip -dc <z | back $f
    bzip2 -$l -c $f >z && sha256sum <z; bzip2 -dc <z | back $f
    zstd -q -$l -c $f >z && sha256sum <z; zstd -qdc <z | back $f
  done
  for l in $levels; do
    xz -$l -T1 -c $f >z && sha256sum <z; xz -dc <z | back $f
    xz -$l --format=lzma -c $f >z && sha256sum <z; xz -dc <z | back $f
  done
  for check in none crc32 crc64 sha256; do xz -0 --check=$check -c $f | sha256sum; done
  for filter in x86 arm delta=dist=3; do xz --$filter --lzma2=preset=1 -c $f | sha256sum; done
  zstd -q -19 -c $f | sha256sum; zstd -q -5 --long=20 -T0 -c $f | sha256sum; zstd -q --ultra -20 -c odd | sha256sum; zstd -q --fast=5 -c $f | sha256sum
  for format in gzip xz lzma lz4; do zstd -q --format=$format -c $f >z; zstd -qdc z | back $f; sha256sum <z; done
done
zstd -q --train samples/* -o dictionary --maxdict=16384 2>&1; sha256sum dictionary
zstd -q -D dictionary -c samples/s00 | sha256sum
