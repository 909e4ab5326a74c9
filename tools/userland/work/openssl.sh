# OpenSSL: every digest, every cipher there and back, MACs, key derivation, primes, and public keys that are given.
openssl version
for d in $(openssl list -1 -digest-commands 2>&1) sha3-224 sha3-512 shake128 blake2b512; do
  echo "== $d"; openssl dgst -$d data odd 2>&1 | grep -v '^[0-9A-F]*:error'
done
for c in $(openssl list -1 -cipher-commands) aes-128-ctr aes-256-ctr aes-128-cfb8 aes-192-ofb aes-256-cfb1 camellia-256-ctr aria-256-ctr sm4-ctr chacha20; do
  # What it says of a key that is longer than it takes, and of ciphers that it has no more, goes to a file.
  echo "== $c"
  openssl enc -$c -in part -out enc -K $key -iv $iv 2>log && sha256sum <enc && openssl enc -$c -d -in enc -K $key -iv $iv 2>log | cmp - part && echo back
  openssl enc -$c -in odd -pbkdf2 -iter 100 -S 0102030405060708 -k secret 2>log | sha256sum
done
for m in "HMAC -macopt digest:SHA256" "HMAC -macopt digest:SHA3-384" "CMAC -macopt cipher:AES-256-CBC" "POLY1305" KMAC128 KMAC256 "SIPHASH -macopt size:16" "GMAC -macopt cipher:AES-128-GCM -macopt hexiv:$iv"; do
  set -- $m; name=$1; shift
  length=32; case $name in SIPHASH|GMAC) length=16;; esac
  echo "== mac $m"; openssl mac -macopt hexkey:$(printf %.$((length * 2))s $key) "$@" -in data $name 2>&1 | grep -v error
done
echo "== derivation"
openssl kdf -keylen 48 -kdfopt digest:SHA2-512 -kdfopt pass:secret -kdfopt salt:salt -kdfopt iter:1000 PBKDF2
openssl kdf -keylen 48 -kdfopt digest:SHA2-256 -kdfopt hexkey:$key -kdfopt info:label HKDF
openssl kdf -keylen 64 -kdfopt pass:secret -kdfopt salt:salt -kdfopt n:1024 -kdfopt r:8 -kdfopt p:2 SCRYPT
for h in -1 -apr1 -5 -6; do openssl passwd $h -salt saltsalt secret; done
echo "== primes"
openssl prime 170141183460469231731687303715884105727 170141183460469231731687303715884105729 2305843009213693951
openssl prime -hex FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A3620FFFFFFFFFFFFFFFF
echo "== public keys"
for k in rsa2048 rsa4096; do
  openssl dgst -sha256 -sign keys/$k -out sig data && sha256sum <sig
  openssl dgst -sha512 -verify keys/$k.pub -signature sig data 2>&1 | grep -v error; openssl dgst -sha256 -verify keys/$k.pub -signature sig data
  openssl pkeyutl -decrypt -inkey keys/$k -in keys/$k.enc -pkeyopt rsa_padding_mode:oaep | sha256sum
  openssl pkey -in keys/$k -check -noout; openssl pkey -in keys/$k -text -noout | sha256sum
done
for k in ed25519 ed448; do
  openssl pkeyutl -sign -rawin -inkey keys/$k -in part -out sig && sha256sum <sig
  openssl pkeyutl -verify -rawin -pubin -inkey keys/$k.pub -in part -sigfile sig
done
for k in p256 p384 p521 secp256k1 bp384 sect283; do
  # The signature is random: this host's is verified here, one made here must verify.
  openssl dgst -sha256 -verify keys/$k.pub -signature keys/$k.sig data
  openssl dgst -sha384 -sign keys/$k -out sig data && openssl dgst -sha384 -verify keys/$k.pub -signature sig data
done
for k in p256 p384 p521 x25519 x448; do openssl pkeyutl -derive -inkey keys/$k -peerkey keys/$k.peer.pub | sha256sum; done
openssl genpkey -algorithm ED25519 | openssl pkey -check -noout; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 | openssl pkey -check -noout
