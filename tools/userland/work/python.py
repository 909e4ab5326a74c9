"""Python: floats as text, math, long integers, decimals, fractions, hashes, structs, compression, random numbers, regular expressions."""
import array, base64, binascii, bz2, cmath, decimal, fractions, hashlib, heapq, hmac, json, lzma, math, os, random, re, statistics, string, struct, sys, unicodedata, zlib, colorsys, difflib, itertools, pickle, sqlite3, datetime, ipaddress, uuid, textwrap

rounds = int(os.environ['rounds'])
r = random.Random(20240229)


def note(name, *values):
    text = ' '.join(repr(v) for v in values)
    print(name, text if len(text) < 300 else hashlib.sha256(text.encode()).hexdigest(), flush=True)


def bits():
    return struct.unpack('<d', struct.pack('<Q', r.getrandbits(64)))[0]


def attempt(f, *a):
    try:
        return f(*a)
    except (ValueError, OverflowError, ZeroDivisionError, TypeError) as e:
        return type(e).__name__


def scaled():
    return r.uniform(-1, 1) * 2.0 ** r.randint(-30, 30)


values = [scaled() for _ in range(rounds)]
anything = [bits() for _ in range(rounds)] + [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308]
note('repr', *anything); note('hex', *[x.hex() for x in anything]); note('str', *[f'{x:.3e} {x:.20g} {x:+012.4f}' for x in values])
note('float', *[float(repr(x)) == x for x in anything]); note('ratio', *[attempt(x.as_integer_ratio) for x in anything])
for name in sorted(n for n in dir(math) if n[0] != '_'):
    f = getattr(math, name)
    if not callable(f) or name in ('factorial', 'perm', 'comb', 'isqrt', 'gcd', 'lcm', 'prod', 'fsum', 'dist', 'ldexp', 'nextafter', 'ulp'): continue
    for kind, xs in (('values', values), ('unit', [r.uniform(-1, 1) for _ in range(rounds)]), ('positive', [abs(x) for x in values]), ('anything', anything)):
        two = name in ('atan2', 'copysign', 'fmod', 'pow', 'remainder', 'hypot', 'isclose')
        note(f'math.{name} {kind}', *[attempt(f, x, y) if two else attempt(f, x) for x, y in zip(xs, xs[1:])])
for name in sorted(n for n in dir(cmath) if n[0] != '_' and callable(getattr(cmath, n)) and n not in ('rect', 'isclose')):
    note(f'cmath.{name}', *[attempt(getattr(cmath, name), complex(x, y)) for x, y in zip(values, anything)])
for name in ('__add__', '__sub__', '__mul__', '__truediv__', '__floordiv__', '__mod__', '__divmod__', '__pow__', '__lt__', '__eq__', '__ge__'):
    note(f'float.{name}', *[attempt(getattr(x, name), y) for x, y in zip(anything, anything[7:])], *[attempt(getattr(x, name), y) for x, y in zip(values, values[1:])])
note('round', *[round(x, n) for x in values for n in (-2, 0, 3)]); note('int', *[attempt(int, x) for x in anything])
note('fsum', math.fsum(values), math.prod(values[:20]), math.dist(values[:9], values[9:18]), [math.nextafter(x, y) for x, y in zip(values, anything)], [math.ulp(x) for x in anything])
note('statistics', statistics.fmean(values), statistics.stdev(values), statistics.median(values), statistics.NormalDist(0, 1).inv_cdf(0.123))
note('sqrt', *[attempt(lambda x: x ** 0.5, abs(x)) for x in anything], *[math.isqrt(r.getrandbits(200)) for _ in range(50)])
longs = [r.getrandbits(r.randint(1, 1500)) * r.choice((1, -1)) for _ in range(rounds // 4)]
for p, q in zip(longs, longs[1:]): note('long', p * q, attempt(divmod, p, q), p ^ q, p & -q, attempt(pow, abs(p), 65537, abs(q) + 1), math.gcd(p, q), float(p % 10 ** 300), p >> 77, q << 131)
note('text of long', *[str(p) for p in longs], *[int(str(p)) == p for p in longs], hex(3 ** 5000), str(7 ** 3000), math.factorial(500), math.comb(500, 250))
for n in (6, 28, 100):
    c = decimal.Context(prec=n); d = [decimal.Decimal(repr(x)) for x in values[:rounds // 4]]
    for p, q in zip(d, d[1:]): note('decimal', c.add(p, q), c.multiply(p, q), c.divide(p, q), c.sqrt(abs(p)), c.fma(p, q, p), c.quantize(p, decimal.Decimal('1e-3')) if abs(p) < 1 else 0)
    note('decimal functions', *[c.exp(p % 10) for p in d[:20]], *[c.ln(abs(p)) for p in d[:20]], *[c.log10(abs(p)) for p in d[:20]], *[c.power(abs(p), decimal.Decimal('0.37')) for p in d[:20]])
f = [fractions.Fraction(x).limit_denominator(10 ** 6) for x in values[:rounds // 4]]
note('fractions', *[p + q for p, q in zip(f, f[1:])], *[p * q for p, q in zip(f, f[1:])], *[attempt(lambda a, b: a / b, p, q) for p, q in zip(f, f[1:])], sum(f[:50]))
data = open('data', 'rb').read(); part = open('part', 'rb').read(); text = open('text').read()
for name in sorted(hashlib.algorithms_guaranteed):
    h = hashlib.new(name, data); note(name, h.hexdigest(64) if name.startswith('shake') else h.hexdigest())
note('hmac', hmac.new(b'key', data, 'sha256').hexdigest(), hashlib.pbkdf2_hmac('sha512', b'p', b's', 500), hashlib.scrypt(b'p', salt=b's', n=256, r=8, p=1), hashlib.blake2b(part, key=b'k', salt=b's', digest_size=33).hexdigest())
note('crc', zlib.crc32(data), zlib.adler32(data), binascii.crc_hqx(part, 7), binascii.crc32(part))
for level in range(0, 10, 3):
    for strategy in range(5):
        z = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy); b = z.compress(part) + z.flush(); note('zlib', level, strategy, len(b), hashlib.md5(b).hexdigest(), zlib.decompress(b, -15) == part)
note('bz2', hashlib.md5(bz2.compress(part)).hexdigest(), bz2.decompress(bz2.compress(part)) == part); note('lzma', hashlib.md5(lzma.compress(part, preset=1)).hexdigest(), lzma.decompress(lzma.compress(part, preset=0)) == part)
for code in 'bBhHiIlLqQnNfdeP?':
    n = struct.calcsize(code); note('struct', code, *[struct.unpack(code, part[at:at + n]) for at in range(0, 400, n)])
for code in '<>':
    note('struct of floats', *[attempt(struct.pack, f'{code}{k}', x) for k in 'efd' for x in values[:200] + anything[-9:]])
for code in 'bBhHiIlLqQfd':
    a = array.array(code); a.frombytes(part[:800]); a.byteswap(); note('array', code, *a, *sorted(a, key=repr)[:9])
for name in ('random', 'gauss', 'expovariate', 'normalvariate', 'vonmisesvariate', 'gammavariate', 'betavariate', 'lognormvariate', 'triangular', 'paretovariate', 'weibullvariate'):
    a = {'expovariate': (1.5,), 'vonmisesvariate': (1, 2), 'gammavariate': (2, 3), 'betavariate': (2, 3), 'lognormvariate': (0, 1), 'paretovariate': (2,), 'weibullvariate': (1, 2), 'normalvariate': (0, 1), 'gauss': (0, 1)}.get(name, ())
    note(f'random.{name}', *[getattr(r, name)(*a) for _ in range(rounds)])
s = list(range(1000)); r.shuffle(s); note('shuffle', *s); note('sample', r.sample(s, 100), r.choices(s, weights=s, k=50)); note('sorted', sorted(values), sorted(map(str, s)), heapq.nsmallest(20, values))
note('json', json.dumps({'values': values, 'text': text[:5000], 'nested': [s[:50], {str(k): v for k, v in zip(s, values)}]}, sort_keys=True), json.loads(json.dumps(values)) == values)
for pattern in (r'\b(\w)(\w)\w*\2\1\b', r'(?i)(?<=th)e\w+', r'[aeiou]{2,}', r'(\w+) \1', r'^(?:(\w+)\W+){3}(\w+)', r'(a|b|ab)*c?', r'\s+(?=[a-m])'):
    note('re', pattern, *re.findall(pattern, text[:20000], re.M)); note('sub', re.sub(pattern, lambda m: m.group(0)[::-1], text[:20000]))
note('unicode', unicodedata.normalize('NFD', ''.join(map(chr, range(0xc0, 0x250)))), ''.join(map(chr, range(0x370, 0x400))).upper(), text.encode('utf-16'), text[:999].encode('punycode'), part.decode('latin1').encode('utf-8'), part.decode('utf-8', 'replace'), part.decode('cp437'))
note('base', base64.b85encode(part), base64.b32encode(part), base64.a85decode(base64.a85encode(part)) == part, binascii.b2a_uu(part[:45]), binascii.hexlify(part))
note('strings', text.find('quick brown'), text.count('e'), text.rfind('zz'), part.find(b'\x00\xff'), part.count(b'\x00'), text.split(), text.replace('th', 'TH'), text.title(), text.translate({101: None}), part[::-1], part * 3 == part + part + part, text.splitlines() == text.split('\n')[:-1])
note('pickle', pickle.dumps((values, s, text[:500], longs), 4), pickle.loads(pickle.dumps(values)) == values); note('colours', *[colorsys.rgb_to_hls(*(abs(v) % 1 for v in values[i:i + 3])) for i in range(60)])
db = sqlite3.connect(':memory:'); db.execute('create table t (a integer, b real, c text)'); db.executemany('insert into t values (?, ?, ?)', [(i, v, str(v)[:6]) for i, v in zip(s, values)])
note('sqlite', *db.execute('select c, sum(b), avg(b), count(*), min(a) from t group by substr(c, 1, 3) order by 2, 1')); note('sqlite text', *db.execute("select printf('%.12g %s', b * a, hex(c)), round(b, 3), cast(b as integer) from t order by a")); db.close()
note('diff', ''.join(difflib.unified_diff(text.split()[:400], text.split()[5:405]))); note('dates', *[(datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=v * 1e3)).isoformat() for v in values if abs(v) < 1e6])
note('loops', sum(i * i % 7 for i in range(rounds * 20)), len({hash(v) for v in values}), [hash(v) for v in anything if v == v], [list(itertools.permutations('abcd')), list(itertools.combinations(range(9), 4))])
note('uuid', uuid.uuid5(uuid.NAMESPACE_DNS, 'guest'), ipaddress.ip_network('10.0.0.0/13').num_addresses, textwrap.fill(text[:3000], 47))
