# GNU coreutils and what is beside them in every system: sums, sorting, encodings, numbers, text.
for sum in md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum sum; do
  echo "== $sum"; $sum data text odd
done
for a in bsd sysv crc md5 sha1 sha224 sha256 sha384 sha512 blake2b sm3; do cksum -a $a data odd; done
for bits in 8 64 200 384 512; do b2sum -l $bits data; done
echo "== counts"; wc data text odd; wc -L text; wc -m data
echo "== encodings"
for e in --base64 --base64url --base32 --base32hex --base16 --base2msbf --base2lsbf --z85; do
  head -c 30000 data >part
  basenc $e part >enc; echo "$e $(sha256sum <enc)"; basenc $e -d enc | cmp - part && echo back
done
base64 -w 0 odd | sha256sum
echo "== od"
for t in a c d1 d2 d4 d8 u8 o2 x1z x4 x8 fF fD fL; do head -c 6000 data | od -A x -t $t | sha256sum; done
head -c 256 data | od -A d -t fD; head -c 320 data | od -A d -t fL; head -c 128 data | od -t fF
echo "== sort"
sort text | sha256sum; sort -u text | wc -l; sort -n numbers | sha256sum; sort -g numbers | sha256sum
sort -R --random-source=data text | sha256sum; sort -h numbers | tail -n 3; sort -V text | sha256sum
sort -k2,2r -k1,1n -t' ' text | sha256sum; sort --parallel=4 -S 64K -T . text | sha256sum
shuf --random-source=data text | sha256sum; shuf -i 1-10000 --random-source=data | sha256sum; tsort pairs | tail -n 2
uniq -c sorted | sort -rn | head -n 5; comm -12 sorted half | sha256sum; join sorted half | sha256sum
echo "== text"
tr a-z A-Z <text | sha256sum; tr -d aeiou <text | sha256sum; tr -cs a-zA-Z '\n' <text | sha256sum; tac text | sha256sum
rev_by_fold() { fold -w 37 -s text; }; rev_by_fold | sha256sum; fmt -w 60 text | sha256sum; pr -3 -t text | sha256sum
nl text | tail -n 2; cut -d' ' -f2,4 text | sha256sum; paste text numbers | sha256sum; expand text | unexpand -a | sha256sum
split -b 9999 data piece. && cat piece.* | cmp - data && echo joined; csplit -s -n 3 text 100 '{3}' && cat xx* | cmp - text && echo rejoined
ptx -w 70 half | sha256sum; head -n -5 text | tail -n 7; numfmt --to=iec <integers | sha256sum; numfmt --to=si --padding=12 <integers | tail -n 3
echo "== numbers"
factor $(head -n $factors integers); factor 18446744073709551615 340282366920938463463374607431768211455 1000000016000000063
factor $(seq 1000000000000000000 7 1000000000000000100); seq -f %.17g 0 0.1 20 | sha256sum; seq 1e15 12345678901 3e15 | sha256sum
seq -w 1 0.37 999 | sha256sum; printf '%.40f %a %.20e %g\n' 0.1 0.1 3.14159265358979323846 1e-310 2.5 1e300 123456789.123 7
expr 12345678901234567890 '*' 98765432109876543210; expr 99999999999999999999999 % 1000007; expr abcdef : '.*\(c.e\)'
printf '%s\n' $((0x7fffffffffffffff / 12345)) $((-9223372036854775807 % 1000003)) $((1 << 62 | 77))
echo "== sed, grep, diff"
sed -E 's/([a-z]+) ([a-z]+)/\2 \1/g; s/e+/E/g' text | sha256sum; sed -n '/th.*e/{s/^/> /p}' text | wc -l
grep -c 'a.*b' text; grep -cE '(^| )[aeiou][a-z]{3,5}( |$)' text; grep -ciF lorem text; grep -cP '(\w)(\w)\2\1' text; grep -aobP '\x00\x01' data | head
grep -nE '([a-z])\1([a-z])\2' text | sha256sum; diff text half | sha256sum; diff -y -W 100 half sorted | sha256sum; cmp -l data shifted | head -3000 | sha256sum
dd if=data of=swapped bs=512 conv=swab status=none; sha256sum <swapped; dd if=text bs=80 conv=ucase,block cbs=100 status=none | sha256sum
truncate -s 100000 hole; sha256sum hole; date -u -d @1700000000 '+%c %j %V %s'; date -u -d '2024-02-29 +1 year -3 days' +%F
