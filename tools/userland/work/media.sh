# Codecs, whose inner loops are assembly for AVX2 and FMA: what they write, and what they read back.
python3.11 media.py
hash() { for f; do sha256sum "$f" || echo "no $f"; done; }
for m in int fast float; do
  cjpeg -dct $m -quality 85 -outfile $m.jpg picture.ppm; cjpeg -dct $m -sample 1x1 -progressive -outfile $m-p.jpg picture.ppm
  djpeg -dct $m -outfile $m.ppm $m-p.jpg; djpeg -dct $m -scale 3/8 -nosmooth -outfile $m-s.ppm $m.jpg; djpeg -grayscale -outfile $m-g.ppm $m.jpg
  hash $m.jpg $m-p.jpg $m.ppm $m-s.ppm $m-g.ppm
done
jpegtran -rotate 90 -optimize -outfile turned.jpg int.jpg; hash turned.jpg
cwebp -quiet -q 70 -m 4 picture.ppm -o a.webp; cwebp -quiet -lossless -m 2 picture.ppm -o b.webp; cwebp -quiet -q 40 -sharp_yuv -segments 4 -f 60 picture.ppm -o c.webp
for n in a b c; do dwebp -quiet $n.webp -ppm -o $n.ppm; hash $n.webp $n.ppm; done
cmp b.ppm picture.ppm && echo lossless
flac -s -f -8 --no-padding -o a.flac sound.wav; flac -s -f -0 --no-padding -o b.flac sound.wav; flac -s -d -f -o back.wav a.flac; hash a.flac b.flac; cmp back.wav sound.wav && echo lossless
lame --quiet -h -b 128 sound.wav a.mp3; lame --quiet -V 2 sound.wav b.mp3; lame --quiet --decode a.mp3 a.wav; hash a.mp3 b.mp3 a.wav
opusenc --quiet --serial 1 --bitrate 96 sound.wav a.opus; opusdec --quiet --no-dither a.opus o.wav 2>log; hash o.wav
for p in ultrafast medium; do
  x265 --log-level none --no-info --input-res 96x64 --fps 25 --frames $frames --pools none --frame-threads 1 --no-wpp --preset $p --input clip.yuv -o $p.265 2>log
  hash $p.265
done
avifenc -s 8 -j 1 -c aom picture.y4m a.avif >log 2>&1; avifenc -s 10 -j 1 -c rav1e picture.y4m r.avif >log 2>&1
for n in a r; do for d in dav1d aom libgav1; do avifdec -j 1 -c $d $n.avif $n-$d.y4m >log 2>&1; hash $n-$d.y4m; done; hash $n.avif; done
