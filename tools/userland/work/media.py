"""A picture, a sound and a short clip, with smooth parts, edges and noise."""
import array, math, os, random, struct, wave

r = random.Random(7)
side = int(os.environ['side'])


def shade(x, y, t=0):
    v = 128 + 90 * math.sin((x + 3 * t) / 9) * math.cos((y - t) / 13)
    if (x // 16 + y // 16) % 3 == 0: v = 255 - v
    return max(0, min(255, int(v + r.gauss(0, 12 if y % 32 > 20 else 1))))


pixels = bytes(shade(x * c, y) for y in range(side) for x in range(side + 5) for c in (1, 2, 3))
open('picture.ppm', 'wb').write(b'P6 %d %d 255\n' % (side + 5, side) + pixels)
samples = array.array('h', (int(9000 * math.sin(i / 11) + 7000 * math.sin(i * i / 9e5) + r.gauss(0, 300)) for i in range(400 * side)))
with wave.open('sound.wav', 'wb') as w:
    w.setnchannels(2); w.setsampwidth(2); w.setframerate(44100); w.writeframes(samples.tobytes())
with open('clip.yuv', 'wb') as f:
    for t in range(int(os.environ['frames'])):
        f.write(bytes(shade(x, y, t) for y in range(64) for x in range(96)))
        f.write(bytes(shade(x * 2, y * 2 + c, t) for c in (0, 50) for y in range(32) for x in range(48)))
with open('picture.y4m', 'wb') as f:
    f.write(b'YUV4MPEG2 W96 H64 F25:1 Ip A1:1 C420jpeg\nFRAME\n' + open('clip.yuv', 'rb').read(96 * 64 * 3 // 2))
