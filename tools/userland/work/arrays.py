"""numpy: element-wise functions, reductions, sorting and linear algebra over all types, strides and lengths around vectors."""
import hashlib, os, warnings
import numpy as np

warnings.simplefilter('ignore'); np.seterr(all='ignore')
rounds = int(os.environ['rounds'])
r = np.random.Generator(np.random.PCG64(20240229))


def note(name, *values):
    h = hashlib.sha256()
    for v in values:
        v = np.asarray(v)
        h.update(repr((v.shape, v.dtype.str)).encode()); h.update(np.ascontiguousarray(v).tobytes())
    print(name, h.hexdigest()[:32], flush=True)


def samples(t, n):
    t = np.dtype(t)
    if t.kind == 'b': return r.integers(0, 2, n).astype(t)
    if t.kind in 'iu': return np.frombuffer(r.bytes(n * t.itemsize), t).copy()
    if t.kind == 'c': return (samples(t.char.lower(), n) + 1j * samples(t.char.lower(), n)).astype(t)
    v = (r.standard_normal(n) * 2.0 ** r.integers(-12, 12, n)).astype(t)
    v[::17] = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5])[np.arange(len(v[::17])) % 8]
    return v


types = '?bBhHiIlLefdFD'
lengths = (1, 3, 7, 8, 15, 16, 31, 33, 64, 100, rounds)
for name in sorted(n for n in dir(np) if isinstance(getattr(np, n), np.ufunc)):
    f = getattr(np, name)
    if name in ('matmul', 'float_power', 'power', 'divmod') and name == 'matmul': continue
    for t in types:
        out = []
        for n in lengths:
            a, b = samples(t, n), samples(t, n)
            if name in ('left_shift', 'right_shift'): b = (b % 7).astype(t) if t not in '?efdFD' else b
            if name == 'power' and t in 'bhil': b = abs(b % 5).astype(t)
            if name == 'ldexp': b = (np.arange(n) % 40 - 20).astype('i')
            try:
                for x, y in ((a, b), (a[::-1], b), (a[::2], b[::2]), (a, a[0])):
                    v = f(*(x, y)[:f.nin])
                    out += list(v) if isinstance(v, tuple) else [v]
                if f.nin == 2 and f.nout == 1: out += [f.reduce(a), f.accumulate(a)]
            except (TypeError, ValueError): pass
        if out: note(f'{name} {t}', *out)
for t in types:
    a = samples(t, rounds * 3); b = samples(t, rounds * 3)
    s = [np.sort(a, kind=k) for k in ('quicksort', 'stable', 'heapsort')]
    note(f'sort {t}', *s, np.argsort(a, kind='stable'), np.partition(a, rounds)[rounds], np.unique(a), np.searchsorted(s[0], b[:100]), np.lexsort((a, b)))
    note(f'pick {t}', np.where(a > b, a, b) if t not in 'FD' else a, a[a == a], np.take(a, np.arange(0, rounds * 3, 7)), np.nonzero(a)[0], np.argmax(a), np.argmin(a), np.packbits(a != 0), np.count_nonzero(a), np.roll(a, 5), np.flip(a), np.repeat(a[:50], 3), np.concatenate([a, b]), a.reshape(3, -1).T.copy())
    if t != '?': note(f'sums {t}', np.sum(a[:16]), np.cumsum(a), np.diff(a), np.mean(a[5:64]), np.var(a[5:64]), np.convolve(a[:64], b[:9]), np.histogram(np.nan_to_num(a.real.astype(float)), 20, (-9, 9))[0])
    for u in types: note(f'cast {t}{u}', a.astype(u))
for t in 'fdFD':
    for n in (1, 2, 3, 5, 8, 17, 33, 64):
        m, k = (np.nan_to_num(r.standard_normal((n, n))).astype(t) for _ in range(2)); m = m + n * np.eye(n, dtype=t)
        note(f'linear {t} {n}', m @ k, k @ m[0], m.T @ k, np.linalg.solve(m, k), np.linalg.inv(m), np.linalg.det(m), np.linalg.qr(k)[1], np.linalg.svd(k)[1], np.linalg.eigvalsh(m + m.T.conj()), np.linalg.cholesky(m @ m.T.conj()), np.einsum('ij,jk->ik', m, k), np.dot(m[0], k[0]), np.outer(m[0], k[0]))
for n in (8, 12, 31, 128, 1000): v = r.standard_normal(n); note(f'fft {n}', np.fft.fft(v), np.fft.rfft(v), np.fft.ifft(v), np.fft.fft2(np.outer(v, v)[:16, :16]))
for name in ('standard_normal', 'standard_exponential', 'standard_cauchy', 'random'): note(name, getattr(r, name)(rounds), getattr(r, name)(rounds, **({'dtype': 'f'} if name in ('random', 'standard_normal') else {})))
note('chance', r.gamma(2.5, size=rounds), r.poisson(7.5, rounds), r.binomial(50, 0.3, rounds), r.permutation(rounds), np.random.RandomState(3).normal(size=rounds), np.random.Generator(np.random.Philox(5)).random(rounds), np.random.Generator(np.random.SFC64(5)).random(rounds))
