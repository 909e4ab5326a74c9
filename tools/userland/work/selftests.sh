# Python's tests of its own arithmetic; how long they took is not compared.
for m in float math cmath complex pow int long strtod fractions struct bytes zlib hashlib random statistics; do
  echo "$m $(python3.11 -m unittest -q test.test_$m 2>&1 | grep -E '^(Ran|OK|FAILED|FAIL|ERROR)' | sed 's/ in .*//' | tr '\n' ' ')"
done
