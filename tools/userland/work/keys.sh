# Keys that both sides use, made by one of them.
mkdir keys
pair() { openssl pkey -in keys/$1 -pubout -out keys/$1.pub; }
for k in rsa2048 rsa4096; do
  openssl genrsa -out keys/$k ${k#rsa} && pair $k
  openssl pkeyutl -encrypt -pubin -inkey keys/$k.pub -in keys.sh.short -pkeyopt rsa_padding_mode:oaep -out keys/$k.enc
done
for k in ed25519 ed448 x25519 x448; do openssl genpkey -algorithm $k -out keys/$k && pair $k; done
for k in p256=prime256v1 p384=secp384r1 p521=secp521r1 secp256k1=secp256k1 bp384=brainpoolP384r1 sect283=sect283r1; do
  n=${k%=*}; openssl ecparam -genkey -noout -name ${k#*=} -out keys/$n && pair $n
  openssl dgst -sha256 -sign keys/$n -out keys/$n.sig data
done
for k in p256=prime256v1 p384=secp384r1 p521=secp521r1; do n=${k%=*}.peer; openssl ecparam -genkey -noout -name ${k#*=} -out keys/$n && pair $n; done
for k in x25519 x448; do openssl genpkey -algorithm $k -out keys/$k.peer && pair $k.peer; done
